// What a Checkpointer tells the log of Python, "understudy".
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "core/common.h"
#include "understudy/ticket.h"

namespace understudy::python {

/// All of it needs the GIL.
class RunLog {
 public:
  explicit RunLog(std::filesystem::path directory) : directory_(std::move(directory)) {}

  void save_failed(const nb::object& error) const;
  /// Training is about to begin from nothing beside somebody's checkpoint.
  void found_others(const std::filesystem::path& other) const;
  /// What a save has met that has been written: the writer, and why it was that one; and what
  /// retention could not remove. Each once.
  void written(const Metrics& metrics);
  /// Once for each newest step: a run that was rolled back saves below it again and again.
  void saved_below(std::int64_t step, std::optional<std::int64_t> newer);

 private:
  void write(const char* level, const char* format, const nb::object& what) const;

  const std::filesystem::path directory_;
  bool is_writer_told_ = false;
  std::string unremoved_told_;
  std::optional<std::int64_t> newer_told_;
};

}  // namespace understudy::python
