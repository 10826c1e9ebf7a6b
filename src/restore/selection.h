// Which paths the caller's names take.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace understudy::restore {

/// A name takes the path that it is, and all below it.
class Selection {
 public:
  explicit Selection(const std::vector<std::string>& names) : names_(names) {
    for (const auto& name : names) seen_[name] = false;
  }

  bool takes_all() const { return names_.empty(); }

  /// As format::TreeSource::select: 2 takes the path whole, 1 something below it, 0
  /// nothing.
  int operator()(const std::string& path) {
    int answer = 0;
    for (const auto& name : names_) {
      if (path == name || is_below(path, name)) {
        seen_[name] = true;
        answer = 2;
      } else if (answer == 0 && is_below(name, path)) {
        answer = 1;
      }
    }
    return answer;
  }

  /// The first name that has taken nothing so far, or null.
  const std::string* first_unseen() const {
    for (const auto& name : names_) {
      if (!seen_.at(name)) return &name;
    }
    return nullptr;
  }

 private:
  static bool is_below(std::string_view path, std::string_view name) {
    return path.size() > name.size() && path.starts_with(name) && path[name.size()] == '.';
  }

  const std::vector<std::string>& names_;
  std::map<std::string, bool> seen_;
};

}  // namespace understudy::restore
