#include "checkpointer/options.h"

#include <utility>

#include "base/error.h"
#include "store/retention.h"

namespace understudy {

CheckpointerOptions checked(CheckpointerOptions options) {
  if (options.keep) store::require_valid(*options.keep);
  if (options.survive.is_on()) {
    // The newest one is kept while the next is filled.
    if (options.images < 2) fail(ErrorCode::invalid, "survive needs images=2 at least, not 1");
    if (options.peers && options.peers->count() > 1) {
      fail(ErrorCode::unsupported,
           "survive is for one rank, and here are {}: what survives of several is not brought "
           "together yet",
           options.peers->count());
    }
  }
  return options;
}

StagerOptions stager_options(const CheckpointerOptions& o) {
  // Ranks decide together, before any of them captures, whether one is busy.
  const bool is_agreed = o.peers && o.peers->count() > 1;
  return {.images = o.images,
          .memory = o.memory,
          .capture = o.capture,
          .when_busy = is_agreed ? WhenBusy::wait : o.when_busy,
          .huge_pages = o.huge_pages,
          .threads = o.threads};
}

}  // namespace understudy
