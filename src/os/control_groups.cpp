#include "os/control_groups.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <vector>

#include "os/small_files.h"

namespace understudy::os {
namespace {

// The names of one version's files.
struct Files {
  const char *memory_limit, *memory_used, *cache;
};
constexpr Files kVersion2 = {"/memory.max", "/memory.current", "inactive_file"};
constexpr Files kVersion1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes",
                             "total_inactive_file"};

// The folders of a group and of those above it, innermost first. In a container the path may be
// that of the host, which is not to be seen: then the mount itself is the container's group.
std::vector<std::string> folders(const std::string& mount, std::string path) {
  std::vector<std::string> all;
  for (; path.size() > 1; path.resize(path.find_last_of('/'))) {
    all.push_back(mount + path);
    if (path.find('/') == std::string::npos) break;
  }
  all.push_back(mount);
  return all;
}

void take_memory(GroupLimits& limits, const std::string& folder, const Files& files) {
  const auto limit = number_in(folder + files.memory_limit);
  const auto used = number_in(folder + files.memory_used);
  if (!limit || !used) return;
  // Page cache counts as used there, and gives way when memory is asked for.
  const auto cache = field_in(folder + "/memory.stat", files.cache).value_or(0);
  const auto held = *used - std::min(*used, cache);
  limits.memory = std::min(limits.memory, *limit - std::min(*limit, held));
}

void take_cores(GroupLimits& limits, double quota, double period) {
  if (quota <= 0 || period <= 0) return;  // -1 in version 1: no limit
  limits.cores = std::min(limits.cores, std::max(1, static_cast<int>(std::ceil(quota / period))));
}

void take_version_2(GroupLimits& limits, const std::string& folder) {
  take_memory(limits, folder, kVersion2);
  std::istringstream fields(line_in(folder + "/cpu.max").value_or(""));
  double quota = 0, period = 0;
  if (fields >> quota >> period) take_cores(limits, quota, period);  // "max" is no number
}

void take_version_1_cores(GroupLimits& limits, const std::string& folder) {
  const auto quota = number_in(folder + "/cpu.cfs_quota_us");
  const auto period = number_in(folder + "/cpu.cfs_period_us");
  if (quota && period) {
    take_cores(limits, static_cast<double>(*quota), static_cast<double>(*period));
  }
}

// "memory" among "cpu,memory".
bool has_name(const std::string& list, const std::string& name) {
  return ("," + list + ",").find("," + name + ",") != std::string::npos;
}

}  // namespace

GroupLimits limits_of_groups(const std::string& membership, const std::string& mount) {
  GroupLimits limits;
  std::istringstream lines(membership);
  // number:controllers:path; version 2 has the number 0 and no controllers.
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const auto path = line.substr(second + 1);
    if (controllers.empty()) {
      for (const auto& folder : folders(mount, path)) take_version_2(limits, folder);
    }
    if (has_name(controllers, "memory")) {
      for (const auto& folder : folders(mount + "/memory", path)) {
        take_memory(limits, folder, kVersion1);
      }
    }
    if (has_name(controllers, "cpu")) {
      // Mounted together as a rule, with a link of the short name.
      for (const auto& folder : folders(mount + "/cpu", path)) take_version_1_cores(limits, folder);
    }
  }
  return limits;
}

GroupLimits limits_of_own_groups() {
  std::ifstream in("/proc/self/cgroup");
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  return limits_of_groups(text, "/sys/fs/cgroup");
}

}  // namespace understudy::os
