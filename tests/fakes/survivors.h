// Runs that end by force and leave what they have captured in memory.
#pragma once

#include <sys/vfs.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "fakes/child.h"
#include "fakes/gate.h"
#include "fakes/states.h"
#include "fakes/temporary_folder.h"
#include "understudy/understudy.h"

namespace understudy::fakes {

/// A run's folder, and a folder in memory for its images.
struct SurvivingRun {
  TemporaryFolder disk{memory_folder()};
  TemporaryFolder memory{memory_folder()};
  std::filesystem::path run = disk / "run";

  /// Images survive in a tmpfs only.
  static bool is_possible() {
    struct statfs found {};
    constexpr decltype(found.f_type) kTmpfs = 0x01021994;
    return statfs(memory_folder().c_str(), &found) == 0 && found.f_type == kTmpfs;
  }

  CheckpointerOptions options() const { return {.directory = run, .survive = memory.path()}; }

  /// All files and folders in the folder in memory, and below.
  std::vector<std::filesystem::path> left() const {
    std::vector<std::filesystem::path> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(memory.path())) {
      all.push_back(entry.path());
    }
    return all;
  }
  /// The folders of sealed steps.
  std::vector<std::filesystem::path> sealed() const {
    std::vector<std::filesystem::path> all;
    for (const auto& path : left()) {
      const auto name = path.filename().native();
      if (name.starts_with("step-") && name.find('.') == std::string::npos) all.push_back(path);
    }
    return all;
  }
};

/// Waits until it is known what became of the captured state; says that.
inline std::string wait_sealed(const TicketBase& ticket) {
  for (;;) {
    const auto said = ticket.metrics().survival;
    if (!said.empty()) return said;
    usleep(500);
  }
}

/// A process saves `state` as `step`, and ends by force when that is sealed and not on the disk.
/// Before that it calls `prepare`. True when all went so.
inline bool leave_in_memory(const CheckpointerOptions& options, std::int64_t step,
                            const Value& state, const SaveOptions& how = {},
                            const std::function<void(Checkpointer&)>& prepare = {}) {
  return in_child([&] {
           auto* const ckpt = new Checkpointer(options);
           if (prepare) prepare(*ckpt);
           ckpt->prewarm(state).wait();  // takes the lock and clears leftovers, which syncs
           const Gate no_fsync;
           const auto ticket = ckpt->save(step, state, how);
           const bool is_sealed = wait_sealed(ticket) == "sealed" && !ticket.is_done();
           _exit(is_sealed ? 0 : 1);
           return 1;
         }) == 0;
}

}  // namespace understudy::fakes
