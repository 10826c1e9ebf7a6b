#include "vm/mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "os/calls.h"
#include "os/system.h"
#include "vm/pages.h"

namespace understudy::vm {
namespace {

using os::calls;

// MAP_FAILED and errno when it is refused.
void* map_at(void* address, std::uint64_t nbytes, int protection, int flags, int fd) {
  void* data = MAP_FAILED;
  do {
    data = calls().mmap(address, nbytes, protection, flags, fd, 0);
  } while (data == MAP_FAILED && errno == EINTR);
  return data;
}

// At a multiple of the huge page: more addresses than needed are taken, and what
// is left before and behind is given back.
void* map_aligned(std::uint64_t nbytes, int flags, int fd) {
  const auto whole = nbytes + kHugePageNbytes;
  void* base = map_at(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (base == MAP_FAILED) return base;
  auto* const begin = static_cast<std::byte*>(base);
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const auto head = round_up(address, std::uintptr_t{kHugePageNbytes}) - address;
  const auto tail = round_up(head + nbytes, page_nbytes());
  void* data = map_at(begin + head, nbytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd);
  if (data == MAP_FAILED) {
    const int cause = errno;
    calls().munmap(begin, whole);
    errno = cause;
    return data;
  }
  if (head > 0) calls().munmap(begin, head);
  if (tail < whole) calls().munmap(begin + tail, whole - tail);
  return data;
}

std::byte* map_writable(std::uint64_t nbytes, int flags, int fd, const char* what) {
  void* data = nbytes >= kHugePageNbytes
                   ? map_aligned(nbytes, flags, fd)
                   : map_at(nullptr, nbytes, PROT_READ | PROT_WRITE, flags, fd);
  if (data == MAP_FAILED) {
    fail(ErrorCode::no_space, "cannot map {} of {} bytes: {}", what, nbytes, std::strerror(errno));
  }
  return static_cast<std::byte*>(data);
}

}  // namespace

Mapping Mapping::reserve(std::uint64_t nbytes) {
  void* data = map_at(nullptr, nbytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (data == MAP_FAILED) {
    fail(ErrorCode::no_space, "cannot reserve {} bytes of addresses: {}", nbytes,
         std::strerror(errno));
  }
  return {static_cast<std::byte*>(data), nbytes};
}

Mapping Mapping::anonymous(std::uint64_t nbytes) {
  if (nbytes >= kHugePageNbytes) os::require_memory("a buffer", nbytes);
  auto* const data = map_writable(nbytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, "a buffer");
  if (nbytes >= kHugePageNbytes) advise(data, nbytes, MADV_HUGEPAGE);
  return {data, nbytes};
}

Mapping Mapping::copy_on_write(int fd, std::uint64_t nbytes, const std::string& name) {
  if (nbytes == 0) return {nullptr, 0};
  // Only pages that are written cost memory, so the whole is not reserved.
  void* data = map_at(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd);
  if (data == MAP_FAILED) {
    fail(ErrorCode::io, "cannot map {} bytes of {}: {}", nbytes, name, std::strerror(errno));
  }
  return {static_cast<std::byte*>(data), nbytes};
}

Mapping Mapping::shared(int fd, std::uint64_t nbytes, const char* what) {
  return {map_writable(nbytes, MAP_SHARED, fd, what), nbytes};
}

Mapping::~Mapping() {
  if (data_ != nullptr) calls().munmap(data_, nbytes_);
}

void Mapping::touch(std::uint64_t begin, std::uint64_t nbytes) {
  if (nbytes == 0) return;
  const int cause = populate(data_ + begin, nbytes);
  // An older kernel makes them when they are written.
  if (cause != 0 && !is_unknown_advice(cause)) fail_to_make("memory", nbytes, cause);
}

void fail_to_make(const char* what, std::uint64_t nbytes, int cause) {
  // EFAULT stands for what would be a SIGBUS.
  fail(ErrorCode::no_space, "cannot make {} bytes of {}: {}", nbytes, what,
       cause == EFAULT ? "no space is left" : std::strerror(cause));
}

}  // namespace understudy::vm
