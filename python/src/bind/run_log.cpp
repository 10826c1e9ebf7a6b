#include "bind/run_log.h"

#include <fmt/format.h>
#include <nanobind/stl/filesystem.h>

namespace understudy::python {

void RunLog::save_failed(const nb::object& error) const {
  write("error", "a save to %s failed: %s", error);
}

void RunLog::found_others(const std::filesystem::path& other) const {
  write("warning", "nothing was resumed: %s has no step of Understudy, but %s", nb::cast(other));
}

void RunLog::written(const Metrics& metrics) {
  if (!is_writer_told_) {
    is_writer_told_ = true;
    write("info", "steps of %s are written by %s", nb::str(metrics.writer.c_str()));
  }
  if (unremoved_told_.empty() && !metrics.unremoved.empty()) {
    write("warning", "%s grows: %s", nb::str(metrics.unremoved.c_str()));
  }
  unremoved_told_ = metrics.unremoved;
}

void RunLog::saved_below(std::int64_t step, std::optional<std::int64_t> newer) {
  if (!newer || newer == newer_told_) return;
  newer_told_ = newer;
  write("warning",
        "in %s, %s. Until the saves have passed it, resume() takes it; resume(step=..., "
        "discard_newer=True) gives up the steps that are newer",
        nb::str(fmt::format("step {} is saved, and there is step {}", step, *newer).c_str()));
}

void RunLog::write(const char* level, const char* format, const nb::object& what) const {
  nb::module_::import_("logging")
      .attr("getLogger")("understudy")
      .attr(level)(format, nb::cast(directory_), what);
}

}  // namespace understudy::python
