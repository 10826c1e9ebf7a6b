#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "format/text.h"
#include "format/tree.h"
#include "understudy/again.h"

namespace understudy::format {
namespace {

using Type = Value::Type;

// Longer text and bytes would swell the header, which is read whole.
constexpr std::size_t kLongText = 1024;
// From here on an entry (some 100 bytes in the header) is the shorter form.
constexpr std::size_t kLongList = 128;

bool is_list_of(const Value& value, Type type) {
  return std::ranges::all_of(value.items(), [type](const Value& item) {
    return item.type() == type && item.kind() == Value::Kind::plain;
  });
}

template <class T, class Get>
std::string number_bytes(const Value& value, Get get) {
  std::string bytes(value.items().size() * sizeof(T), '\0');
  char* to = bytes.data();
  for (const auto& item : value.items()) {
    const T number = get(item);
    std::memcpy(to, &number, sizeof number);
    to += sizeof number;
  }
  return bytes;
}

}  // namespace

bool is_blob(const Value& value, Blob::Type& type) {
  switch (value.type()) {
    case Type::text: type = Blob::Type::text; return value.as_text().size() > kLongText;
    case Type::bytes: type = Blob::Type::bytes; return value.as_bytes().size() > kLongText;
    case Type::opaque: {
      type = Blob::Type::pickle;
      const auto& pickle = value.as_opaque().pickle;
      return pickle != nullptr && pickle->size() > kLongText;
    }
    case Type::list: {
      const auto items = value.items();
      if (value.kind() != Value::Kind::plain || items.size() < kLongList) return false;
      const bool is_integers = items.front().type() == Type::integer;
      type = is_integers ? Blob::Type::integers : Blob::Type::floats;
      return is_list_of(value, is_integers ? Type::integer : Type::floating);
    }
    default: return false;
  }
}

std::string blob_bytes(const Value& value) {
  switch (value.type()) {
    case Type::text:
      if (!is_utf8(value.as_text())) {
        fail(ErrorCode::invalid, "the text {} is not UTF-8 and cannot be written",
             in_quotes(value.as_text()));
      }
      return value.as_text();
    case Type::bytes: return value.as_bytes();
    case Type::opaque: return *value.as_opaque().pickle;
    default: break;
  }
  if (value.items().front().type() == Type::integer) {
    return number_bytes<std::int64_t>(value, [](const Value& v) { return v.as_integer(); });
  }
  return number_bytes<double>(value, [](const Value& v) { return v.as_floating(); });
}

std::uint64_t blob_nbytes(const Value& value) {
  switch (value.type()) {
    case Type::text: return value.as_text().size();
    case Type::bytes: return value.as_bytes().size();
    case Type::opaque: return value.as_opaque().pickle->size();
    default: return value.items().size() * sizeof(std::int64_t);
  }
}

}  // namespace understudy::format

namespace understudy {

bool is_blob(const Value& value) {
  format::Blob::Type type;
  return format::is_blob(value, type);
}

bool is_scalar(const Value& value) {
  return value.type() <= Value::Type::bytes && !is_blob(value);
}

}  // namespace understudy
