#include "os/system.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <vector>

#include "base/error.h"
#include "os/calls.h"

namespace understudy::os {
namespace {

std::optional<std::string> read_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return {};
  return line;
}

std::optional<std::uint64_t> read_number(const std::string& path) {
  const auto line = read_line(path);
  if (!line || line->empty() || line->find_first_not_of("0123456789") != std::string::npos) {
    return {};  // "max" among others: no limit
  }
  return std::strtoull(line->c_str(), nullptr, 10);
}

// The value behind `key` in a file of "key value" lines, in the unit given.
std::optional<std::uint64_t> read_field(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string name;
    std::uint64_t value = 0;
    if (fields >> name >> value && name == key) return value;
  }
  return {};
}

// This process's control groups (version 2), innermost first.
std::vector<std::string> control_groups() {
  std::ifstream in("/proc/self/cgroup");
  std::vector<std::string> groups;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("0::")) continue;
    for (std::string path = line.substr(3); path.size() > 1; path.resize(path.find_last_of('/'))) {
      groups.push_back("/sys/fs/cgroup" + path);
      if (path.find('/') == std::string::npos) break;
    }
  }
  groups.push_back("/sys/fs/cgroup");
  return groups;
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  int cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(CPU_COUNT(&set), 1);
  for (const auto& group : control_groups()) {
    const auto line = read_line(group + "/cpu.max");
    if (!line) continue;
    std::istringstream fields(*line);
    double quota = 0, period = 0;
    if (fields >> quota >> period && period > 0) {
      cores = std::min(cores, std::max(1, static_cast<int>(std::ceil(quota / period))));
    }
  }
  return cores;
}

int cores_of_this_rank() {
  int ranks = 1;
  if (const char* text = std::getenv("LOCAL_WORLD_SIZE")) ranks = std::max(std::atoi(text), 1);
  return std::max(usable_cores() / ranks, 1);
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
  if (const auto v = read_field("/proc/meminfo", "MemAvailable:")) available = *v * kKiB;
  for (const auto& group : control_groups()) {
    const auto limit = read_number(group + "/memory.max");
    const auto used = read_number(group + "/memory.current");
    if (!limit || !used) continue;
    // Page cache counts as used there, and gives way when memory is asked for.
    const auto cache = read_field(group + "/memory.stat", "inactive_file").value_or(0);
    const auto held = *used - std::min(*used, cache);
    available = std::min(available, *limit - std::min(*limit, held));
  }
  return available;
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
