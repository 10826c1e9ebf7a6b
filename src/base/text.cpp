#include "base/text.h"

namespace understudy {

std::string vformat_text(fmt::string_view format, fmt::format_args arguments) {
  return fmt::vformat(format, arguments);
}

}  // namespace understudy
