// Numbers and texts in messages between ranks: little-endian, each text with its length.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace understudy::ranks {

static_assert(std::endian::native == std::endian::little);

inline void put_number(std::string& out, std::uint64_t number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

inline void put_text(std::string& out, std::string_view text) {
  put_number(out, text.size());
  out += text;
}

/// Takes a message apart. Each function gives nothing once the bytes do not suffice.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : left_(bytes) {}

  std::optional<std::uint64_t> number() {
    std::uint64_t number = 0;
    if (left_.size() < sizeof number) return {};
    std::memcpy(&number, left_.data(), sizeof number);
    left_.remove_prefix(sizeof number);
    return number;
  }
  std::optional<std::string_view> text() {
    const auto nbytes = number();
    if (!nbytes || *nbytes > left_.size()) return {};
    const auto text = left_.substr(0, *nbytes);
    left_.remove_prefix(*nbytes);
    return text;
  }
  /// A number of things of at least `nbytes` each, which are all still to come.
  std::optional<std::uint64_t> count(std::uint64_t nbytes) {
    const auto found = number();
    if (!found || *found > left_.size() / nbytes) return {};
    return found;
  }
  std::string_view rest() const { return left_; }

 private:
  std::string_view left_;
};

}  // namespace understudy::ranks
