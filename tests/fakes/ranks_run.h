// Checkpointers of ranks that are threads.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fakes/temporary_folder.h"
#include "fakes/thread_peers.h"
#include "understudy/checkpointer.h"

namespace understudy::fakes {

inline CheckpointerOptions options_of(const TemporaryFolder& folder, Peers& peers) {
  CheckpointerOptions options{.directory = folder.path(), .threads = 1};
  options.peers = {std::shared_ptr<void>(), &peers};  // the meeting place owns them
  return options;
}

/// What each rank's `body` throws; empty where it throws nothing.
inline std::vector<std::string> failures_of(MeetingPlace& place, int count,
                                            const std::function<void(Peers&)>& body) {
  std::vector<std::string> failures(static_cast<std::size_t>(count));
  place.run([&](Peers& peers) {
    try {
      body(peers);
    } catch (const Error& error) {
      failures[static_cast<std::size_t>(peers.rank())] = error.what();
    }
  });
  return failures;
}

}  // namespace understudy::fakes
