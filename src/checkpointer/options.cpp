#include "checkpointer/options.h"

#include <utility>

#include "base/error.h"
#include "store/retention.h"

namespace understudy {

CheckpointerOptions checked(CheckpointerOptions options) {
  if (options.keep) store::require_valid(*options.keep);
  if (options.survive) {
    fail(ErrorCode::unsupported, "survive is not in this version: images end with the process");
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
