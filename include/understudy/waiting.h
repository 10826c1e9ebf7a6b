// WhileWaiting: what a thread does while it waits in the library.
#pragma once

#include <functional>

namespace understudy {

/// In its scope, calls of this thread that wait for somebody else (for a free image, an earlier
/// capture, another thread's call, a ticket) call `look` about twenty times a second, holding no
/// lock. What `look` throws ends the call, which then has done nothing. `look` may call the
/// library. Scopes nest; the innermost counts. Not for destructors: they wait to the end.
class WhileWaiting {
 public:
  /// `look` is called as long as this lives.
  explicit WhileWaiting(std::function<void()> look);
  ~WhileWaiting();
  WhileWaiting(const WhileWaiting&) = delete;
  WhileWaiting& operator=(const WhileWaiting&) = delete;

 private:
  friend struct WaitLook;
  const std::function<void()> look_;
  WhileWaiting* const outer_;
};

}  // namespace understudy
