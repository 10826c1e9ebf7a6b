// What this rank saves, taken apart, and what of it the next save takes over.
//
// To take a state apart, and to lay its shard out, costs more than to capture a small one. Where
// the caller knows that nothing but scalars and places is new (again.h), both are kept: the outline
// with its hash, the tree as text, the leaves, and the plan of the shard, which the stager has. No
// memory of the caller's is kept alive between the calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpointer/sources.h"
#include "format/tree.h"
#include "ranks/assignment.h"
#include "ranks/state_parts.h"
#include "stage/places.h"
#include "stage/snapshot.h"
#include "understudy/again.h"

namespace understudy {

class RankState {
 public:
  explicit RankState(int rank) : rank_(rank) {}

  /// Takes `state` apart; `number` names it for a later Again. `per_rank` as in SaveOptions.
  void take(const Value& state, std::uint64_t number, std::span<const std::string> per_rank);
  /// The last state, with what has changed in it. False, and nothing has changed: it was another
  /// one, or its tensors share other bytes now.
  bool take(const Again& again, std::span<const std::string> per_rank);

  const std::string& outline() const { return outline_; }  ///< encoded
  const std::string& hash() const { return hash_; }        ///< of the outline

  /// Captures what this rank writes by `assignment`. Once after each `take`.
  std::shared_ptr<Capturing> capture(StagerState& stager,
                                     const std::shared_ptr<const ranks::Assignment>& assignment,
                                     const std::shared_ptr<TicketState>& ticket);
  /// After the capture: where the chunks of the shard lie in their tensors.
  const std::shared_ptr<const ShardChunks>& chunks() const { return shard_.chunks; }
  /// What this rank adds to the index.
  std::string index_part(const ranks::Assignment& assignment) const;

  /// Ends the call: lets go of the caller's memory.
  void let_go() noexcept { owners_.reset(); }

 private:
  // The shard of the last capture.
  struct Shard {
    std::shared_ptr<const ranks::Assignment> assignment;
    std::vector<ranks::ShardLeaf> leaves;
    std::shared_ptr<const ShardChunks> chunks;
    std::uint64_t number = 0;  // by which the stager knows it; 0: it does not
  };

  Value shard_value() const;
  bool move(std::span<const stage::Move> moves);
  std::vector<stage::Move> moves_in_shard() const;

  const int rank_;
  std::uint64_t number_ = 0;           // of the state, 0: of none
  std::vector<std::string> per_rank_;  // with which it was taken apart
  ranks::StateParts parts_;            // its tensors own nothing
  std::vector<std::size_t> tensors_;   // which leaves are tensors, in walk order
  std::string outline_, hash_;
  std::string skeleton_;                 // as text
  std::vector<format::Span> scalars_;    // in it
  std::shared_ptr<const void> owners_;   // of the tensors' memory, during a call
  std::optional<stage::Places> places_;  // of the tensors, once some have moved
  std::vector<stage::Move> moves_;       // of this call
  bool is_captured_ = false;             // since it was taken
  Shard shard_;
  std::uint64_t next_number_ = 1;
};

}  // namespace understudy
