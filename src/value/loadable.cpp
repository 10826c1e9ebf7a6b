#include "understudy/loadable.h"

namespace understudy {

std::string PartLoadable::check(const Value& state) {
  const auto answer = ask(state, {});
  const bool fits =
      answer.missing.empty() && answer.unexpected.empty() && answer.mismatched.empty();
  return fits ? answer.objection : "its names, shapes or types differ";
}

}  // namespace understudy
