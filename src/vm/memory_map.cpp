#include "vm/memory_map.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>

#include "os/calls.h"
#include "os/failure.h"

namespace understudy::vm {
namespace {

constexpr const char* kMaps = "/proc/self/maps";

// Takes the text up to the next blank off the front.
std::string_view next_field(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const auto field = line.substr(0, line.find(' '));
  line.remove_prefix(field.size());
  return field;
}

MappedRange::Kind kind_of(std::string_view permissions, std::string_view inode,
                          std::string_view name) {
  using Kind = MappedRange::Kind;
  if (permissions.size() < 4) return Kind::special;
  if (permissions[3] == 's') return Kind::shared;
  if (inode != "0") return Kind::file;
  if (permissions[1] != 'w') return Kind::special;
  // Names in brackets: [heap], [anon:...] that a program gave, [stack], [vdso].
  const bool is_plain = name.empty() || name == "[heap]" || name.starts_with("[anon:");
  return is_plain ? Kind::anonymous : Kind::special;
}

// begin-end permissions offset device inode [name]
bool parse(std::string_view line, MappedRange& out) {
  const auto range = next_field(line);
  const auto permissions = next_field(line);
  next_field(line), next_field(line);
  const auto inode = next_field(line);
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const auto dash = range.find('-');
  if (dash == std::string_view::npos) return false;
  const auto hex = [](std::string_view text, std::uintptr_t& value) {
    const auto* end = text.data() + text.size();
    const auto done = std::from_chars(text.data(), end, value, 16);
    return done.ec == std::errc{} && done.ptr == end;
  };
  if (!hex(range.substr(0, dash), out.begin) || !hex(range.substr(dash + 1), out.end)) return false;
  out.kind = kind_of(permissions, inode, line);
  return true;
}

}  // namespace

MemoryMap MemoryMap::of_text(const std::string& text) {
  MemoryMap found;
  for (std::string_view rest = text; !rest.empty();) {
    const auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    MappedRange mapping;
    if (parse(line, mapping)) found.all_.push_back(mapping);
  }
  return found;
}

MemoryMap MemoryMap::of_this_process() {
  const int fd = os::calls().open(kMaps, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) os::fail_call("open", kMaps, errno);
  std::string text;
  std::array<char, std::size_t{64} << 10> piece;
  for (;;) {
    const auto n =
        os::uninterrupted([&] { return os::calls().read(fd, piece.data(), piece.size()); });
    if (n < 0) {
      const int cause = errno;
      os::calls().close(fd);
      os::fail_call("read", kMaps, cause);
    }
    if (n == 0) break;
    text.append(piece.data(), static_cast<std::size_t>(n));
  }
  os::calls().close(fd);
  return of_text(text);
}

std::span<const MappedRange> MemoryMap::covering(std::uintptr_t begin,
                                                 std::uintptr_t end) const noexcept {
  auto first = std::upper_bound(all_.begin(), all_.end(), begin,
                                [](std::uintptr_t at, const MappedRange& m) { return at < m.end; });
  auto last = first;
  for (auto at = begin; at < end; at = last->end, ++last) {
    if (last == all_.end() || last->begin > at) return {};
  }
  return {first, last};
}

}  // namespace understudy::vm
