// The strict reader of safetensors headers.
//
// 1. The prefix: the length must lie within the format's limit and the file.
// 2. The JSON, event by event: what may stand where is decided here, so that
//    duplicates, order and the way numbers are written are seen.
// 3. The entries: sizes by shape and type, offsets without hole or overlap,
//    names all different, and the file exactly as long as they say.
#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "format/header_writer.h"
#include "format/safetensors.h"
#include "format/text.h"
#include "understudy/tensor.h"

namespace understudy::format {
namespace {

constexpr std::string_view kMetadataName = "__metadata__";

class HeaderEvents {
 public:
  using Json = nlohmann::json;

  HeaderEvents(Header& header, std::string_view file) : header_(header), file_(file) {}

  bool null() {
    // No metadata, as the reference reads it.
    if (at_ == At::root && is_metadata_) return true;
    return is_skipped() || refuse("a null");
  }
  bool boolean(bool) { return is_skipped() || refuse("true or false"); }
  bool number_integer(Json::number_integer_t) {
    return is_skipped() || refuse("a number with a sign");
  }
  bool number_float(Json::number_float_t, const std::string& text) {
    if (is_skipped()) return true;
    refuse(format_text("the number {}, which is not a plain 64-bit count", in_quotes(text)));
  }
  bool binary(Json::binary_t&) { refuse("binary data"); }

  bool number_unsigned(Json::number_unsigned_t value) {
    if (is_skipped()) return true;
    if (at_ == At::shape) {
      auto& shape = header_.entries.back().shape;
      if (shape.size() == kMaxDims + 1) {  // the parts of complex numbers are one more
        fail(ErrorCode::unsupported, "{}: {} has more than {} dimensions", file_, place(),
             kMaxDims);
      }
      shape.push_back(value);
    } else if (at_ == At::offsets && offsets_ < 2) {
      auto& entry = header_.entries.back();
      (offsets_++ == 0 ? entry.begin : entry.end) = value;
    } else {
      refuse("a number");
    }
    return true;
  }

  bool string(std::string& text) {
    if (is_skipped()) return true;
    if (at_ == At::metadata) {
      header_.metadata.back().second = std::move(text);
    } else if (at_ == At::entry && field_ == kDType) {
      header_.entries.back().dtype = std::move(text);
    } else {
      refuse("a text");
    }
    return true;
  }

  bool start_object(std::size_t) {
    if (is_skipped()) return enter_skipped();
    if (at_ == At::start) {
      at_ = At::root;
    } else if (at_ == At::root) {
      at_ = is_metadata_ ? At::metadata : At::entry;
      fields_ = 0;
    } else {
      refuse("an object");
    }
    return true;
  }

  bool key(std::string& text) {
    if (skipped_depth_ > 0) return true;
    if (at_ == At::root) {
      begin_name(text);
    } else if (at_ == At::metadata) {
      header_.metadata.emplace_back(std::move(text), std::string());
    } else {
      begin_field(text);
    }
    return true;
  }

  bool end_object() {
    if (skipped_depth_ > 0) return leave_skipped();
    if (at_ == At::entry && fields_ != kAllFields) {
      fail_at("lacks dtype, shape or data_offsets");
    }
    at_ = at_ == At::root ? At::end : At::root;
    return true;
  }

  bool start_array(std::size_t) {
    if (is_skipped()) return enter_skipped();
    if (at_ != At::entry || field_ == kDType) refuse("a list");
    at_ = field_ == kShape ? At::shape : At::offsets;
    offsets_ = 0;
    return true;
  }

  bool end_array() {
    if (skipped_depth_ > 0) return leave_skipped();
    if (at_ == At::offsets && offsets_ != 2) fail_at("has data_offsets that are not two numbers");
    at_ = At::entry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception&) {
    fail(ErrorCode::corrupt, "{}: the header is not valid JSON near byte {} of the file", file_,
         kPrefixNbytes + position);
  }

 private:
  enum class At { start, root, metadata, entry, shape, offsets, end };
  enum Field : unsigned { kUnknown = 0, kDType = 1, kShape = 2, kOffsets = 4, kAllFields = 7 };

  // A field that we do not know: the reference reads past it, whatever it holds.
  bool is_skipped() const { return skipped_depth_ > 0 || (at_ == At::entry && field_ == kUnknown); }
  bool enter_skipped() {
    ++skipped_depth_;
    return true;
  }
  bool leave_skipped() {
    --skipped_depth_;
    return true;
  }

  void begin_name(std::string& name) {
    is_metadata_ = name == kMetadataName;
    if (is_metadata_) {
      if (has_metadata_) fail(ErrorCode::corrupt, "{}: the header has __metadata__ twice", file_);
      has_metadata_ = true;
    } else {
      header_.entries.emplace_back().name = std::move(name);
    }
  }

  void begin_field(const std::string& name) {
    if (name == "dtype") {
      field_ = kDType;
    } else if (name == "shape") {
      field_ = kShape;
    } else if (name == "data_offsets") {
      field_ = kOffsets;
    } else {
      field_ = kUnknown;
      return;
    }
    if ((fields_ & field_) != 0) fail_at(format_text("has the field {} twice", name));
    fields_ |= field_;
  }

  // Where the parser stands, for messages.
  std::string place() const {
    if (at_ == At::start || at_ == At::end) return "the header";
    if (at_ == At::metadata) {
      return format_text("__metadata__ key {} in the header",
                         in_quotes(header_.metadata.back().first));
    }
    if (is_metadata_) return "__metadata__ in the header";
    return format_text("entry {} in the header", in_quotes(header_.entries.back().name));
  }

  [[noreturn]] void fail_at(std::string_view what) const {
    fail(ErrorCode::corrupt, "{}: {} {}", file_, place(), what);
  }

  [[noreturn]] bool refuse(std::string_view found) const {
    fail_at(format_text("has {} where it must not be", found));
  }

  Header& header_;
  std::string_view file_;
  At at_ = At::start;
  bool is_metadata_ = false;
  bool has_metadata_ = false;
  unsigned fields_ = 0;
  unsigned field_ = 0;
  int skipped_depth_ = 0;
  int offsets_ = 0;
};

[[noreturn]] void fail_entry(std::string_view file, const Entry& entry, std::string_view what) {
  fail(ErrorCode::corrupt, "{}: entry {} in the header {}", file, in_quotes(entry.name), what);
}

// Bytes by shape and type. The dimensions other than zero must fit together
// too, so that strides can be computed without care.
std::uint64_t checked_nbytes(const Entry& entry, std::string_view file) {
  const unsigned bits = dtype_bits(entry.dtype);
  if (bits == 0)
    fail_entry(file, entry, format_text("has the unknown dtype {}", in_quotes(entry.dtype)));
  bool is_empty = false;
  std::optional<std::uint64_t> total = bits;
  for (const auto dim : entry.shape) {
    is_empty |= dim == 0;
    if (dim != 0 && total) total = checked_mul(*total, dim);
  }
  if (!total || *total > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    fail_entry(file, entry, "has a shape that overflows 64 bits");
  }
  if (is_empty) return 0;
  if (*total % 8 != 0) fail_entry(file, entry, "does not fill whole bytes");
  return *total / 8;
}

void check_entries(Header& header, std::string_view file) {
  const auto before = [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  };
  if (!std::is_sorted(header.entries.begin(), header.entries.end(), before)) {
    std::stable_sort(header.entries.begin(), header.entries.end(), before);
  }
  std::uint64_t next = 0;
  for (const auto& entry : header.entries) {
    if (entry.begin > entry.end) fail_entry(file, entry, "ends before it begins");
    if (entry.begin != next) {
      fail_entry(file, entry,
                 format_text("begins at data offset {} where {} was expected: {}", entry.begin,
                             next, entry.begin < next ? "it overlaps another" : "there is a hole"));
    }
    const auto nbytes = checked_nbytes(entry, file);
    if (entry.nbytes() != nbytes) {
      fail_entry(
          file, entry,
          format_text("has {} bytes where its shape and dtype need {}", entry.nbytes(), nbytes));
    }
    next = entry.end;
  }
  header.data_nbytes = next;
}

void check_names(const Header& header, std::string_view file) {
  std::vector<std::string_view> names;
  names.reserve(header.entries.size());
  for (const auto& entry : header.entries) names.push_back(entry.name);
  if (const auto i = find_duplicate(names); i >= 0) {
    fail_entry(file, header.entries[static_cast<std::size_t>(i)], "is there twice");
  }
  names.clear();
  for (const auto& [key, value] : header.metadata) names.push_back(key);
  if (const auto i = find_duplicate(names); i >= 0) {
    fail(ErrorCode::corrupt, "{}: __metadata__ key {} in the header is there twice", file,
         in_quotes(names[static_cast<std::size_t>(i)]));
  }
}

// The JSON without its padding.
std::string_view json_of(std::span<const std::byte> header, std::string_view file) {
  std::string_view json(reinterpret_cast<const char*>(header.data()), header.size());
  json.remove_prefix(kPrefixNbytes);
  if (json.empty() || json.front() != '{') {
    fail(ErrorCode::corrupt, "{}: not a safetensors file, the header does not begin with '{{'",
         file);
  }
  // The parser would take a NUL for the end.
  if (const auto at = json.find('\0'); at != json.npos) {
    fail(ErrorCode::corrupt, "{}: the header has a NUL at byte {} of the file", file,
         kPrefixNbytes + at);
  }
  json = json.substr(0, json.find_last_not_of(' ') + 1);
  if (json.back() != '}') {
    fail(ErrorCode::corrupt, "{}: the header does not end with '}}' and spaces", file);
  }
  return json;
}

}  // namespace

std::uint64_t read_header_nbytes(std::span<const std::byte> prefix, std::uint64_t file_nbytes,
                                 std::string_view file) {
  if (prefix.size() < kPrefixNbytes || file_nbytes < kPrefixNbytes) {
    fail(ErrorCode::corrupt, "{}: not a safetensors file, it has only {} bytes", file, file_nbytes);
  }
  std::uint64_t n = 0;
  for (int i = 7; i >= 0; --i) n = n << 8 | static_cast<std::uint64_t>(prefix[i]);
  if (n > kMaxHeaderNbytes) {
    fail(ErrorCode::corrupt, "{}: the header's length {} exceeds the format's limit of {}", file, n,
         kMaxHeaderNbytes);
  }
  if (n > file_nbytes - kPrefixNbytes) {
    fail(ErrorCode::corrupt, "{}: the header's length {} exceeds the file's {} bytes", file, n,
         file_nbytes);
  }
  return kPrefixNbytes + n;
}

Header read_header(std::span<const std::byte> bytes, std::uint64_t file_nbytes,
                   std::string_view file) {
  Header header;
  header.header_nbytes = read_header_nbytes(bytes, file_nbytes, file);
  if (bytes.size() != header.header_nbytes) {
    fail(ErrorCode::corrupt, "{}: the header should have {} bytes and has {}", file,
         header.header_nbytes, bytes.size());
  }
  const auto json = json_of(bytes, file);
  HeaderEvents events(header, file);
  nlohmann::json::sax_parse(json.data(), json.data() + json.size(), &events);
  check_entries(header, file);
  check_names(header, file);
  if (file_nbytes - header.header_nbytes != header.data_nbytes) {
    fail(ErrorCode::corrupt, "{}: the file has {} bytes where its header says {}", file,
         file_nbytes, header.header_nbytes + header.data_nbytes);
  }
  return header;
}

}  // namespace understudy::format
