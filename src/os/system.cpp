#include "os/system.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>

#include "base/error.h"
#include "os/calls.h"
#include "os/control_groups.h"
#include "os/small_files.h"

namespace understudy::os {
int usable_cores() {
  cpu_set_t set;
  int cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(CPU_COUNT(&set), 1);
  return std::min(cores, limits_of_own_groups().cores);
}

int cores_of_this_rank() {
  int ranks = 1;
  if (const char* text = std::getenv("LOCAL_WORLD_SIZE")) ranks = std::max(std::atoi(text), 1);
  return std::max(usable_cores() / ranks, 1);
}

std::string host_name() {
  std::array<char, 256> name{};  // Linux has names of 64
  if (gethostname(name.data(), name.size() - 1) != 0) return {};
  return name.data();
}

int copying_threads() {
  // One core streams 17 GB/s and more (measured), and a socket's memory takes 150
  // to 250 GB/s of copying: more threads than this would only wait.
  constexpr int kEnough = 16;
  return std::min(cores_of_this_rank(), kEnough);
}

double processor_seconds() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

std::uint64_t available_memory() {
  auto available = std::numeric_limits<std::uint64_t>::max();
  constexpr std::uint64_t kKiB = 1024;
  if (const auto v = field_in("/proc/meminfo", "MemAvailable:")) available = *v * kKiB;
  return std::min(available, limits_of_own_groups().memory);
}

void require_memory(const char* what, std::uint64_t nbytes) {
  const auto available = available_memory();
  if (nbytes > available) {
    fail(ErrorCode::no_space,
         "{} of {} bytes does not fit into memory: {} bytes are available, {} are missing", what,
         nbytes, available, nbytes - available);
  }
}

ReservedAddresses::ReservedAddresses(std::uint64_t nbytes) : nbytes_(nbytes) {
  void* data =
      calls().mmap(nullptr, nbytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    fail(ErrorCode::no_space, "cannot reserve {} bytes of addresses: {}", nbytes,
         std::strerror(errno));
  }
  data_ = static_cast<std::byte*>(data);
}

ReservedAddresses::~ReservedAddresses() {
  calls().munmap(data_, nbytes_);
}

PrivateMapping::PrivateMapping(int fd, std::uint64_t nbytes, const std::string& name)
    : nbytes_(nbytes) {
  if (nbytes == 0) return;
  // Only pages that are written cost memory, so the whole is not reserved.
  void* data =
      calls().mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  if (data == MAP_FAILED) {
    fail(ErrorCode::io, "cannot map {} bytes of {}: {}", nbytes, name, std::strerror(errno));
  }
  data_ = static_cast<std::byte*>(data);
}

PrivateMapping::~PrivateMapping() {
  if (data_ != nullptr) calls().munmap(data_, nbytes_);
}

}  // namespace understudy::os
