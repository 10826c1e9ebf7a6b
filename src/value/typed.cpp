#include "value/typed.h"

#include <algorithm>

namespace understudy::value {
namespace {

constexpr TypedRule kRules[] = {
    {"datetime.datetime", true},
    {"datetime.date", true},
    {"datetime.time", true},
    {"datetime.timedelta", true},
    {"datetime.timezone", true},
    {"zoneinfo.ZoneInfo", true},
    {"decimal.Decimal", true},
    {"fractions.Fraction", true},
    {"uuid.UUID", true},
    {"ipaddress.IPv4Address", true},
    {"ipaddress.IPv6Address", true},
    {"ipaddress.IPv4Network", true},
    {"ipaddress.IPv6Network", true},
    {"ipaddress.IPv4Interface", true},
    {"ipaddress.IPv6Interface", true},
    {"re.Pattern", true},
    {"time.struct_time", true},
    {"array.array"},
    {"random.Random"},
    {"numpy.ndarray"},
    {"numpy.recarray"},
    {"numpy.ma.MaskedArray"},
    {"numpy.scalar"},
    {"numpy.dtype"},
    {"numpy.random.Generator"},
    {"numpy.random.RandomState"},
    {"numpy.random.SeedSequence"},
    {"numpy.random.MT19937"},
    {"numpy.random.PCG64"},
    {"numpy.random.PCG64DXSM"},
    {"numpy.random.Philox"},
    {"numpy.random.SFC64"},
    {"torch.Generator"},
    {"torch.sparse_coo"},
    {"torch.sparse_csr"},
    {"torch.sparse_csc"},
    {"torch.sparse_bsr"},
    {"torch.sparse_bsc"},
    {"torch.quantized"},
    {"torch.jagged"},
    {"enum", false, true},
    {"dataclass", false, true},
    {"tensor_subclass", false, true},
};

}  // namespace

const TypedRule* find_typed(std::string_view name) noexcept {
  const auto* found = std::ranges::find(kRules, name, &TypedRule::name);
  return found == std::end(kRules) ? nullptr : found;
}

const TypedRule* typed_rule(const Value& node) noexcept {
  const bool is_named =
      node.kind() == Value::Kind::typed && node.extra().type() == Value::Type::tuple &&
      !node.extra().items().empty() && node.extra().items()[0].type() == Value::Type::text;
  return is_named ? find_typed(node.extra().items()[0].as_text()) : nullptr;
}

}  // namespace understudy::value

namespace understudy {

std::string typed_name(const Value& value) {
  std::string name;
  if (value.kind() != Value::Kind::typed || value.extra().type() != Value::Type::tuple) return name;
  for (const auto& part : value.extra().items()) {
    if (part.type() != Value::Type::text) return {};
    // "dataclass", "train", "Config"
    const auto* const before = name.empty() ? "" : name.find(' ') == name.npos ? " " : ".";
    name += before + part.as_text();
  }
  return name;
}

}  // namespace understudy
