#include "format/metadata.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "value/walk.h"

namespace understudy {
namespace {

using Json = nlohmann::ordered_json;
using Type = Value::Type;

// What JSON has no number for: {"understudy.float": "nan"}.
constexpr std::string_view kFloatKey = "understudy.float";
constexpr std::string_view kNan = "nan", kInfinity = "inf", kMinusInfinity = "-inf";

Json float_to_json(double v) {
  if (std::isfinite(v)) return v;
  const auto text = std::isnan(v) ? kNan : (v > 0 ? kInfinity : kMinusInfinity);
  return Json::object({{std::string(kFloatKey), std::string(text)}});
}

std::optional<double> float_from_json(const Json& j) {
  using Limits = std::numeric_limits<double>;
  if (j.size() != 1 || j.begin().key() != kFloatKey || !j.begin()->is_string()) return {};
  const auto text = j.begin()->get<std::string>();
  if (text == kNan) return Limits::quiet_NaN();
  if (text == kInfinity) return Limits::infinity();
  if (text == kMinusInfinity) return -Limits::infinity();
  return {};
}

// Depth is bounded by the walk that metadata_to_json begins with.
Json to_json(const Value& v) {
  switch (v.type()) {
    case Type::boolean: return v.as_boolean();
    case Type::integer: return v.as_integer();
    case Type::floating: return float_to_json(v.as_floating());
    case Type::text: return v.as_text();
    case Type::list:
    case Type::tuple: {
      auto out = Json::array();
      for (const auto& item : v.items()) out.push_back(to_json(item));
      return out;
    }
    case Type::dict: {
      auto out = Json::object();
      for (const auto& [key, child] : v.pairs()) out[key.as_text()] = to_json(child);
      return out;
    }
    default: return nullptr;
  }
}

Value from_json(const Json& j, int depth) {
  if (depth > kMaxDepth) {
    fail(ErrorCode::corrupt, "a step's metadata is nested deeper than {}", kMaxDepth);
  }
  if (j.is_boolean()) return j.get<bool>();
  if (j.is_number_unsigned() && j.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max()) {
    return Value(j.dump()).with_kind(Value::Kind::big_integer);
  }
  if (j.is_number_integer()) return j.get<std::int64_t>();
  if (j.is_number()) return j.get<double>();
  if (j.is_string()) return j.get<std::string>();
  if (j.is_array()) {
    Value::Items items;
    for (const auto& item : j) items.push_back(from_json(item, depth + 1));
    return Value::list(std::move(items));
  }
  if (j.is_object()) {
    if (const auto number = float_from_json(j)) return *number;
    Value::Pairs pairs;
    for (const auto& [key, child] : j.items()) pairs.emplace_back(key, from_json(child, depth + 1));
    return Value::dict(std::move(pairs));
  }
  return {};
}

}  // namespace

std::string metadata_to_json(const Value& metadata) {
  value::walk(metadata, [](const value::Path& path, const Value& node) {
    const bool is_json = node.type() != Type::complex && node.type() != Type::bytes &&
                         node.type() != Type::tensor && node.type() != Type::opaque &&
                         node.kind() == Value::Kind::plain;
    if (!is_json) {
      fail(ErrorCode::invalid, "metadata must be JSON, and the {} at '{}' is not",
           to_string(node.type()), path.str());
    }
    if (node.type() == Type::dict) {
      for (const auto& [key, child] : node.pairs()) {
        if (key.type() != Type::text || key.kind() != Value::Kind::plain) {
          fail(ErrorCode::invalid, "metadata must be JSON, and a key of '{}' is not a text",
               path.str());
        }
        if (key.as_text() == kFloatKey) {
          fail(ErrorCode::invalid, "the key '{}' in the metadata at '{}' is reserved", kFloatKey,
               path.str());
        }
      }
    }
    return true;
  });
  return to_json(metadata).dump();
}

Value metadata_from_json(std::string_view json) {
  return from_json(Json::parse(json), 0);
}

}  // namespace understudy
