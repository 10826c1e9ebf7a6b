#include "os/system.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <limits>

#include "base/error.h"
#include "os/control_groups.h"
#include "os/small_files.h"

namespace understudy::os {

int usable_cores() {
  cpu_set_t set;
  int cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(CPU_COUNT(&set), 1);
  return std::min(cores, limits_of_own_groups().cores);
}

namespace {

int ranks_here() {
  const char* text = std::getenv("LOCAL_WORLD_SIZE");
  return text != nullptr ? std::max(std::atoi(text), 1) : 1;
}

}  // namespace

int cores_of_this_rank() {
  return std::max(usable_cores() / ranks_here(), 1);
}

int share_of_this_rank(int threads) {
  constexpr int kLeast = 2;  // one works while another waits
  return std::min(threads, std::max(threads / ranks_here(), kLeast));
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

}  // namespace understudy::os
