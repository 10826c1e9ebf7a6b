// A flag that threads wait on without a lock.
#pragma once

namespace understudy::os {

/// Set by any thread, taken by one. Neither side allocates or takes a lock, so
/// that a thread which holds up nobody can use it.
class Event {
 public:
  /// Throws Error(io) when the process has no descriptor to give.
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void set() noexcept;
  /// Waits until it is set, and clears it. False when the time ran out first.
  bool wait(int timeout_ms) noexcept;
  void clear() noexcept { wait(0); }

  /// In a forked child: closes what it inherited. The end must not come there.
  void abandon() noexcept;

  int fd() const noexcept { return fd_; }  ///< readable while it is set

 private:
  int fd_;
};

}  // namespace understudy::os
