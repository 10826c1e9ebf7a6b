#include "os/small_files.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace understudy::os {

std::optional<std::string> line_in(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return {};
  return line;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
  const auto line = line_in(path);
  if (!line || line->empty() || line->find_first_not_of("0123456789") != std::string::npos) {
    return {};
  }
  return std::strtoull(line->c_str(), nullptr, 10);
}

std::optional<std::uint64_t> field_in(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string name;
    std::uint64_t value = 0;
    if (fields >> name >> value && name == key) return value;
  }
  return {};
}

}  // namespace understudy::os
