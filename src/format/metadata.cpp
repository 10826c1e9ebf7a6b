#include "format/metadata.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "value/walk.h"

namespace understudy {
namespace {

using Json = nlohmann::ordered_json;
using Type = Value::Type;

// Depth is bounded by the walk that metadata_to_json begins with.
Json to_json(const Value& v) {
  switch (v.type()) {
    case Type::boolean: return v.as_boolean();
    case Type::integer: return v.as_integer();
    case Type::floating: return v.as_floating();
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
    if (!is_json || (node.type() == Type::floating && !std::isfinite(node.as_floating()))) {
      fail(ErrorCode::invalid, "metadata must be JSON, and the {} at '{}' is not",
           to_string(node.type()), path.str());
    }
    if (node.type() == Type::dict) {
      for (const auto& [key, child] : node.pairs()) {
        if (key.type() != Type::text || key.kind() != Value::Kind::plain) {
          fail(ErrorCode::invalid, "metadata must be JSON, and a key of '{}' is not a text",
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
