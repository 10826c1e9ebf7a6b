#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "values.h"

namespace understudy::cli {
namespace {

/// JSON has no number for these.
Json float_json(double v) {
  if (std::isfinite(v)) return v;
  return fmt::to_string(v);
}

std::string hex(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const unsigned char byte : bytes) fmt::format_to(std::back_inserter(text), "{:02x}", byte);
  return text;
}

class TreeWriter {
 public:
  Json node(const Value& value) {
    Json json;
    json["type"] = to_string(value.type());
    if (value.kind() != Value::Kind::plain) json["kind"] = to_string(value.kind());
    if (!value.extra().is_none()) json["extra"] = TreeWriter().node(value.extra());
    switch (value.type()) {
      case Value::Type::none: break;
      case Value::Type::boolean: json["value"] = value.as_boolean(); break;
      case Value::Type::integer: json["value"] = value.as_integer(); break;
      case Value::Type::floating: json["value"] = float_json(value.as_floating()); break;
      case Value::Type::complex:
        json["value"] = {float_json(value.as_complex().real()),
                         float_json(value.as_complex().imag())};
        break;
      case Value::Type::text: json["value"] = value.as_text(); break;
      case Value::Type::bytes: json["hex"] = hex(value.as_bytes()); break;
      case Value::Type::list:
      case Value::Type::tuple: json["items"] = items(value); break;
      case Value::Type::dict: json["items"] = pairs(value); break;
      case Value::Type::tensor: json["tensor"] = next_tensor_++; break;
      case Value::Type::opaque: json["type_name"] = value.as_opaque().type_name; break;
    }
    return json;
  }

 private:
  Json items(const Value& value) {
    auto array = Json::array();
    for (const auto& item : value.items()) array.push_back(node(item));
    return array;
  }

  Json pairs(const Value& value) {
    auto array = Json::array();
    for (const auto& [key, item] : value.pairs()) {
      Json json{{"key", key_text(key)}};
      if (key.type() != Value::Type::text) json["key_type"] = to_string(key.type());
      json["value"] = node(item);
      array.push_back(std::move(json));
    }
    return array;
  }

  std::uint64_t next_tensor_ = 0;
};

}  // namespace

Json tree_json(const Description& description) {
  return TreeWriter().node(description.tree);
}

Json metadata_json(const Value& metadata) {
  switch (metadata.type()) {
    case Value::Type::boolean: return metadata.as_boolean();
    case Value::Type::integer: return metadata.as_integer();
    case Value::Type::floating: return float_json(metadata.as_floating());
    case Value::Type::text: return metadata.as_text();
    case Value::Type::list: {
      auto array = Json::array();
      for (const auto& item : metadata.items()) array.push_back(metadata_json(item));
      return array;
    }
    case Value::Type::dict: {
      auto object = Json::object();
      for (const auto& [key, item] : metadata.pairs()) object[key_text(key)] = metadata_json(item);
      return object;
    }
    default: return nullptr;
  }
}

}  // namespace understudy::cli
