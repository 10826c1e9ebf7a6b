#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <string_view>

#include "base/text.h"
#include "inspect/compare.h"
#include "understudy/text.h"

namespace understudy::inspect {
namespace {

// Enough to tell two texts apart in a message of one line.
constexpr std::size_t kLongestText = 60;

std::string float_text(double v) {
  if (std::isnan(v)) return fmt::format("nan (bits {:#018x})", std::bit_cast<std::uint64_t>(v));
  return fmt::format("{}", v);
}

std::string shown(std::string_view text) {
  const auto beginning = beginning_of(text, kLongestText);
  if (beginning.size() == text.size()) return fmt::format("'{}'", escape(text));
  return fmt::format("'{}...' ({} bytes)", escape(beginning), text.size());
}

std::string type_or_kind(const Value& value) {
  if (value.kind() == Value::Kind::typed) return escape(typed_name(value));
  return std::string(value.kind() == Value::Kind::plain ? to_string(value.type())
                                                        : to_string(value.kind()));
}

// A typed value whose text tells it whole: a date, a UUID.
const std::string* only_text(const Value& value) {
  if (value.kind() != Value::Kind::typed || value.type() != Value::Type::dict) return nullptr;
  const auto* text = value.pairs().size() == 1 ? value.find("text") : nullptr;
  return text != nullptr && text->type() == Value::Type::text ? &text->as_text() : nullptr;
}

}  // namespace

std::string dims_text(const Dims& dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

std::string brief(const Value& value) {
  switch (value.type()) {
    case Value::Type::none: return "None";
    case Value::Type::boolean: return value.as_boolean() ? "True" : "False";
    case Value::Type::integer: return fmt::to_string(value.as_integer());
    case Value::Type::floating: return float_text(value.as_floating());
    case Value::Type::complex:
      return fmt::format("({}, {})", float_text(value.as_complex().real()),
                         float_text(value.as_complex().imag()));
    case Value::Type::text: return shown(value.as_text());
    case Value::Type::bytes:
      return fmt::format("{} of {} bytes", type_or_kind(value), value.as_bytes().size());
    case Value::Type::list:
    case Value::Type::tuple:
      return fmt::format("{} of {}", type_or_kind(value), value.items().size());
    case Value::Type::dict:
      if (const auto* text = only_text(value)) {
        return fmt::format("{} {}", type_or_kind(value), shown(*text));
      }
      return fmt::format("{} of {}", type_or_kind(value), value.pairs().size());
    case Value::Type::tensor:
      return fmt::format("{} tensor of shape {}", name(value.as_tensor().dtype()),
                         dims_text(value.as_tensor().shape()));
    case Value::Type::opaque:
      return fmt::format("object of type {}", escape(value.as_opaque().type_name));
  }
  return {};
}

}  // namespace understudy::inspect
