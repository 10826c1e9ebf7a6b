// This rank among the others: what a Checkpointer's calls agree on. docs/ranks.md has the
// exchanges.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpointer/commit_for_all.h"
#include "ranks/assignment.h"
#include "understudy/peers.h"

namespace understudy {

/// What all have agreed for one save.
struct TeamSave {
  SaveOfAll save;
  std::shared_ptr<const ranks::Assignment> assignment;
};

/// A failure that one rank has told all others: the same Error on each.
class ToldFailure : public Error {
 public:
  using Error::Error;
};

/// Calls are made by all ranks in the same order, one at a time.
class Team {
 public:
  Team(std::shared_ptr<Peers> peers, std::chrono::duration<double> timeout);

  /// What a rank says in the call of a save.
  struct Call {
    std::string how;
    std::string hash;           ///< of its outline
    std::uint64_t made_by = 0;  ///< the save whose assignment it has; 0: none
    bool is_busy = false;       ///< it has no free image
  };

  /// The call on this rank, before it is agreed.
  struct Prepared {
    std::string_view outline;  ///< encoded
    std::string_view hash;     ///< of it
    bool is_busy = false;      ///< as Call::is_busy; where saves wait for images nobody is
  };

  /// What a rank sees of the folder of rank 0.
  struct Sight {
    std::string folder;  ///< for messages
    /// Leaves something that the others look for, and gives its name; empty where nothing can be
    /// left. Rank 0 alone.
    std::function<std::string()> leave;
    std::function<bool(const std::string& name)> sees;
  };

  bool is_first() const { return peers_->rank() == 0; }
  const CommitForAll& commit() const { return commit_; }

  /// The call of a save. `prepare` checks what can be known at once, and says what the state is;
  /// when it throws on one rank, all throw its Error. `how` must be the same on all. Nothing but a
  /// few bytes is exchanged when the outlines are the last ones. Nothing, on all ranks, when one is
  /// busy; `busy` then names those that are.
  std::optional<TeamSave> agree(std::int64_t step, const std::string& how,
                                const std::function<Prepared()>& prepare, std::string& busy);

  /// Throws Error(io), the same on all ranks, when some do not see the folder of rank 0. `open`
  /// opens the folder; its failure is that of all.
  void meet(const std::function<Sight()>& open);

  /// Rank 0 does something, and the others get what it says of it. Its failure is that of all.
  std::string first_does(const std::string& what, std::int64_t step,
                         const std::function<std::string()>& act);

  /// The same call of a rank that has no state to save: tells the others, and waits for nobody.
  void fail_agree(std::int64_t step, const std::exception& why);

  /// The step that rank 0 chooses; nothing when it finds none. Its failure is that of all.
  std::optional<std::int64_t> choose_step(
      const std::string& what, const std::function<std::optional<std::int64_t>()>& choose);

  /// Between the look at something and what is done about it: `look` throws on one rank, and all
  /// throw its Error, as ToldFailure. `look` calls what it is given when it has seen enough, and
  /// does the rest then.
  void look_then_do(const std::string& what, std::int64_t step,
                    const std::function<void(const std::function<void()>& all_agree)>& look);

  /// Both for a rank that cannot look: tells the others.
  void fail_to_look(const std::string& what, const std::exception& why);

 private:
  std::uint64_t next_number() { return next_number_++; }
  void settle(const ranks::Topic& topic, std::vector<ranks::Answer> answers) const;
  bool is_last_assignment(const std::vector<Call>& calls, std::int64_t step) const;

  const std::shared_ptr<Peers> peers_;
  const ranks::Exchanger exchanger_;
  const CommitForAll commit_;
  std::uint64_t next_number_ = 0;
  std::uint64_t next_save_ = 1;
  // The last assignment, the save that it was made for, and the hashes of its outlines.
  std::uint64_t made_by_ = 0;
  std::vector<std::string> hashes_;
  std::shared_ptr<const ranks::Assignment> assignment_;
};

}  // namespace understudy
