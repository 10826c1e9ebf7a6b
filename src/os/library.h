// Shared libraries that are opened at run time.
#pragma once

#include <string>

namespace understudy::os {

/// A library that stays open until the process ends: drivers do not unload
/// cleanly.
class Library {
 public:
  explicit Library(const std::string& name);
  /// One that the program has loaded already; none is loaded.
  static Library loaded(const std::string& name);

  bool is_open() const noexcept { return handle_ != nullptr; }
  /// Why it is not open; empty when it is.
  const std::string& problem() const noexcept { return problem_; }
  /// The address of an exported function, or null.
  void* find(const char* symbol) const noexcept;

 private:
  Library(const std::string& name, int flags);

  void* handle_;
  std::string problem_;
};

}  // namespace understudy::os
