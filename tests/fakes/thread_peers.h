// Ranks as threads of one process, whose exchanges can be told to go wrong.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "understudy/error.h"
#include "understudy/peers.h"

namespace understudy::fakes {

/// What goes wrong on one rank at one exchange.
struct PeersFault {
  enum class Type {
    fails,    ///< the transport throws; the others miss this rank
    late,     ///< the others have given up when it comes; it still gets what they gave
    cut_off,  ///< it misses all others, and they miss it
    changed,  ///< its message is another one
  };
  Type type = Type::fails;
  int rank = 0;
  Peers::Lane lane = Peers::Lane::calls;
  std::uint64_t number = 0;
  std::function<std::string(std::string)> change{};
};

/// Where the ranks meet. A deadline is real only where nothing else ends a wait: a rank that was
/// told to be late or cut off, or has left, is not waited for.
class MeetingPlace {
 public:
  explicit MeetingPlace(int count) : count_(count) {}

  void plan(PeersFault fault) { faults_.push_back(std::move(fault)); }
  /// Faults that were reached.
  int reached() const {
    std::lock_guard lock(mutex_);
    return reached_;
  }
  /// Exchanges that all who were not kept away have ended, in their order.
  std::vector<std::string> topics() const {
    std::lock_guard lock(mutex_);
    return topics_;
  }

  /// The Peers of one rank, which leaves when they go.
  std::unique_ptr<Peers> join(int rank) { return std::make_unique<Member>(*this, rank); }

  /// Runs `body` on a thread for each rank; throws the first exception.
  void run(const std::function<void(Peers&)>& body) {
    std::vector<std::exception_ptr> failures(static_cast<std::size_t>(count_));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < count_; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          body(*join(rank));
        } catch (...) {
          failures[static_cast<std::size_t>(rank)] = std::current_exception();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    for (const auto& failure : failures) {
      if (failure) std::rethrow_exception(failure);
    }
  }

 private:
  using Messages = std::vector<std::optional<std::string>>;

  struct Round {
    Messages messages;
    std::set<int> away;   ///< not waited for
    std::set<int> ended;  ///< have returned
  };

  class Member final : public Peers {
   public:
    Member(MeetingPlace& place, int rank) : place_(place), rank_(rank) {}
    ~Member() override { place_.leave(rank_); }
    int rank() const override { return rank_; }
    int count() const override { return place_.count_; }
    Messages exchange(const Exchange& which, const std::string& mine) override {
      return place_.exchange(rank_, which, mine);
    }

   private:
    MeetingPlace& place_;
    const int rank_;
  };

  void leave(int rank) {
    std::lock_guard lock(mutex_);
    left_.insert(rank);
    changed_.notify_all();
  }

  const PeersFault* find_fault(int rank, const Peers::Exchange& which) const {
    for (const auto& fault : faults_) {
      if (fault.rank == rank && fault.lane == which.lane && fault.number == which.number) {
        return &fault;
      }
    }
    return nullptr;
  }

  bool is_waited_for(const Round& round, int rank) const {
    return !round.away.contains(rank) && !left_.contains(rank);
  }

  template <class Done>
  bool all_others(const Round& round, int rank, const Done& done) const {
    for (int other = 0; other < count_; ++other) {
      if (other != rank && is_waited_for(round, other) && !done(other)) return false;
    }
    return true;
  }

  Messages exchange(int rank, const Peers::Exchange& which, std::string mine) {
    std::unique_lock lock(mutex_);
    auto& round = rounds_[{which.lane, which.number}];
    round.messages.resize(static_cast<std::size_t>(count_));
    auto& own = round.messages[static_cast<std::size_t>(rank)];
    if (const auto* fault = find_fault(rank, which)) {
      ++reached_;
      if (fault->type == PeersFault::Type::changed) {
        mine = fault->change(std::move(mine));
      } else {
        round.away.insert(rank);
        changed_.notify_all();
      }
      switch (fault->type) {
        case PeersFault::Type::fails:
          throw Error(ErrorCode::io, "the network is down, says the test");
        case PeersFault::Type::cut_off: {
          Messages alone(static_cast<std::size_t>(count_));
          alone[static_cast<std::size_t>(rank)] = std::move(mine);
          return alone;
        }
        case PeersFault::Type::late:
          changed_.wait_until(lock, which.deadline, [&] {
            return all_others(round, rank, [&](int other) { return round.ended.contains(other); });
          });
          own = std::move(mine);
          return round.messages;
        case PeersFault::Type::changed: break;
      }
    }
    own = std::move(mine);
    changed_.notify_all();
    changed_.wait_until(lock, which.deadline, [&] {
      return all_others(round, rank, [&](int other) {
        const bool is_wanted =
            which.want == Peers::Want::all || (which.want == Peers::Want::first_rank && other == 0);
        return !is_wanted || round.messages[static_cast<std::size_t>(other)].has_value();
      });
    });
    if (round.ended.empty()) topics_.emplace_back(which.what);
    round.ended.insert(rank);
    changed_.notify_all();
    return round.messages;
  }

  const int count_;
  std::vector<PeersFault> faults_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<Peers::Lane, std::uint64_t>, Round> rounds_;
  std::vector<std::string> topics_;
  std::set<int> left_;
  int reached_ = 0;
};

}  // namespace understudy::fakes
