// Peers: how the ranks of one run reach each other.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace understudy {

/// The other ranks of a run. The library has no network: whoever has several processes
/// implements this one function over what they have (MPI, sockets, pipes, a key-value store).
///
/// All ranks make the same exchanges. Each is known by its lane and its number, and what is
/// given under one is never delivered under another: a message that comes late, after its
/// exchange has ended, is dropped; one that comes early is kept until it is asked for. A
/// transport that can tag messages (MPI), or names them (a store), has that for nothing.
///
/// The two lanes are used by two threads at a time, a lane by one. Within a lane numbers ascend,
/// with gaps. Messages are short as a rule; a rank's outline takes about 100 bytes a tensor.
class Peers {
 public:
  /// Exchanges of the user's calls, and those of saves in the background, which go on meanwhile.
  enum class Lane : std::uint8_t { calls, saves };

  /// Whose messages a rank needs. Others' may come with them. Who waits for none only gives its
  /// own: it returns at once, and what it gave still reaches those who wait for it.
  enum class Want : std::uint8_t { all, first_rank, none };

  /// One exchange.
  struct Exchange {
    Lane lane = Lane::calls;                           ///< with `number`: which exchange it is
    std::uint64_t number = 0;                          ///< the same on all ranks
    Want want = Want::all;                             ///< whose messages this rank waits for
    std::chrono::steady_clock::time_point deadline{};  ///< when to return without the missing
    std::string_view what{};  ///< what it is for, in words, for logs: "the outlines of step 7"
  };

  virtual ~Peers() = default;
  /// This process's rank, from 0.
  virtual int rank() const = 0;
  /// Number of ranks; the same for as long as this lives.
  virtual int count() const = 0;
  /// Gives `mine` to all and returns, by rank, what each has given, this one's included; nothing
  /// for a rank whose message was not wanted, has not come by the deadline, or will not because
  /// the rank is gone. The caller says who was missing, so that is no error here. Throws where the
  /// transport itself fails; later exchanges may work again.
  virtual std::vector<std::optional<std::string>> exchange(const Exchange& which,
                                                           const std::string& mine) = 0;
};

}  // namespace understudy
