// The other ranks of a Checkpointer, as Python reaches them.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/common.h"
#include "core/gil.h"
#include "understudy/peers.h"

namespace understudy::python {

/// Over an object of understudy._peers. Takes the GIL for each exchange; the object lets it go
/// while it waits.
class PyPeers : public Peers {
 public:
  /// Waits for the others to come here, and is null where there are none. Needs the GIL, as all
  /// but `exchange`.
  static std::shared_ptr<PyPeers> join(nb::handle group, double timeout);

  int rank() const override { return rank_; }
  int count() const override { return count_; }
  std::vector<std::optional<std::string>> exchange(const Exchange& which,
                                                   const std::string& mine) override;

  /// Nothing is exchanged any more. Rank 0 may wait for the others a while.
  void leave(bool waits) const;
  /// Exchanges under way come back at once.
  void end() const;

  /// Of understudy._peers.
  nb::handle object() const { return static_cast<PyObject*>(object_.get()); }

 private:
  explicit PyPeers(nb::object object);

  std::shared_ptr<void> object_;
  int rank_, count_;
};

/// What the other ranks are told of a Python exception.
Error as_error(const nb::python_error& error);

/// Makes something. What keeps this rank from it is told to the others, where there are any, by
/// `tell(Error)`, which is called without the GIL and may fail.
template <class Make, class Tell>
auto telling(const Peers* peers, const Make& make, const Tell& tell) {
  const auto say = [&](const Error& why) {
    if (peers == nullptr) return;
    WithoutGil no_gil;
    try {
      tell(why);
    } catch (const Error&) {
      // They will miss this rank; what it failed of is the error to raise.
    }
  };
  try {
    return make();
  } catch (const Error& error) {
    say(error);
    throw;
  } catch (const nb::python_error& error) {
    say(as_error(error));
    throw;
  }
}

}  // namespace understudy::python
