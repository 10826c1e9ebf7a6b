// Typed values that stay the caller's objects in a resume: generators, sparse and quantised
// tensors, arrays. Each is built anew from the saved parts, checked by that, and copied over.
#include <array>
#include <utility>

#include "build/assign.h"
#include "build/build.h"
#include "build/check_parts.h"
#include "build/loadable.h"
#include "core/errors.h"
#include "core/gil.h"
#include "core/refs.h"
#include "walk/typed.h"

namespace understudy::python {
namespace {

// What says how large it is and of what, where it has such a part.
constexpr std::array kFixed = {"shape", "dtype", "device", "typecode", "bit_generator"};

bool is_pickle(const Value& saved) {
  return saved.type() == Value::Type::opaque && saved.as_opaque().pickle != nullptr;
}

class InPlace : public PartLoadable {
 public:
  InPlace(nb::handle object, std::string place, const Value& own)
      : object_(hold(nb::borrow(object))), place_(std::move(place)), name_(typed_name(own)) {
    for (const char* word : kFixed) {
      if (const auto* part = own.find(word)) fixed_.emplace_back(word, *part);
    }
  }

  LoadAnswer ask(const Value& saved, const LoadPolicy& policy) override {
    WithGil gil;
    LoadAnswer answer;
    answer.state = saved;
    answer.objection = policy.wants ? kTakesItsPartWhole : objection_to(saved);
    return answer;
  }

  void prepare(const Value& state) override {
    WithGil gil;
    try {
      auto built = Builder({.allow_pickle = true}).build(state);
      if (!built.type().is(object().type()) && is_pickle(state)) {
        fail(ErrorCode::invalid, "a {} was saved there", name_of_type(built.type()));
      }
      if (const auto why = typed_function("misfit")(object(), built); !why.is_none()) {
        fail(ErrorCode::invalid, "{}", text_of(why));
      }
      built_ = hold(std::move(built));
    } catch (const Error& error) {
      fail(error.code(), "the {} at '{}': {}", name_, place_, error.what());
    }
  }

  void load(const Value&) override {
    WithGil gil;
    const auto built = nb::borrow(static_cast<PyObject*>(std::exchange(built_, {}).get()));
    saying_overwritten([&] { typed_function("assign")(object(), built); });
  }

 private:
  nb::handle object() const { return static_cast<PyObject*>(object_.get()); }

  std::string objection_to(const Value& saved) const {
    const auto own = typed_function("objection")(object());
    if (!own.is_none()) return text_of(own);
    if (is_pickle(saved)) return {};
    if (typed_name(saved) != name_) {
      const auto there = typed_name(saved);
      return fmt::format("it is a {}, and {} was saved there", name_,
                         there.empty() ? "something else" : "a " + there);
    }
    for (const auto& [word, part] : fixed_) {
      const auto* other = saved.find(word);
      if (other != nullptr && !fits(part, *other)) {
        return fmt::format("it is of another {} than what was saved", word);
      }
    }
    return {};
  }

  // A typed part (a generator of bits) needs the same type only.
  static bool fits(const Value& own, const Value& saved) {
    const bool is_typed = own.kind() == Value::Kind::typed && saved.kind() == own.kind();
    return is_typed ? typed_name(own) == typed_name(saved) : is_same(own, saved);
  }

  std::shared_ptr<void> object_;
  std::shared_ptr<void> built_;
  std::string place_, name_;
  std::vector<std::pair<std::string, Value>> fixed_;
};

}  // namespace

Opaque in_place_leaf(nb::handle object, std::string place, const Value& own) {
  Opaque leaf;
  leaf.type_name = name_of_type(object.type());
  leaf.loadable = std::make_shared<InPlace>(object, std::move(place), own);
  return leaf;
}

}  // namespace understudy::python
