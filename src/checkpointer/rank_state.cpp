#include "checkpointer/rank_state.h"

#include <algorithm>
#include <utility>

#include "checkpointer/rank_index.h"
#include "ranks/outline.h"
#include "ranks/per_rank.h"
#include "value/extents.h"

namespace understudy {
namespace {

// The same elements elsewhere, or in the care of somebody else.
Tensor look_at(const Tensor& tensor, std::byte* data, std::shared_ptr<void> owner) {
  return Tensor::from_owner(std::move(owner), data, tensor.dtype(), tensor.shape(),
                            tensor.strides());
}

Value with_tensor(const Value& leaf, Tensor tensor) {
  return Value(std::move(tensor)).with_kind(leaf.kind(), leaf.extra());
}

}  // namespace

void RankState::take(const Value& state, std::uint64_t number,
                     std::span<const std::string> per_rank) {
  number_ = 0;  // whatever fails below, it is no state
  is_captured_ = false;
  shard_ = {};
  moves_.clear();
  places_.reset();
  parts_ = ranks::split_state(ranks::with_own_parts(state, per_rank, rank_));
  owners_ = std::make_shared<const Value>(state);
  per_rank_.assign(per_rank.begin(), per_rank.end());
  tensors_.clear();
  for (std::size_t i = 0; i < parts_.leaves.size(); ++i) {
    auto& value = parts_.leaves[i].value;
    if (value.type() != Value::Type::tensor) continue;
    const auto& tensor = value.as_tensor();
    value = with_tensor(value, look_at(tensor, tensor.data(), nullptr));
    tensors_.push_back(i);
  }
  scalars_.clear();
  skeleton_ = ranks::encode_skeleton(parts_.skeleton, &scalars_);
  parts_.skeleton = {};  // the text is enough
  outline_ = ranks::encode_outline(ranks::outline_of(parts_));
  hash_ = ranks::outline_hash(outline_);
  number_ = number;
}

bool RankState::take(const Again& again, std::span<const std::string> per_rank) {
  if (again.was == 0 || again.was != number_ || !std::ranges::equal(per_rank, per_rank_)) {
    return false;
  }
  auto skeleton = skeleton_;
  auto scalars = scalars_;
  if (!again.scalars.empty()) format::exchange_scalars(skeleton, scalars, again.scalars);
  if (!move(again.moves)) return false;
  skeleton_ = std::move(skeleton);
  scalars_ = std::move(scalars);
  // What was taken before and not captured, the stager does not know.
  if (!std::exchange(is_captured_, false)) shard_.number = 0;
  moves_ = again.moves;
  owners_ = again.owners;
  number_ = again.is;
  return true;
}

// False when tensors would share other bytes than the outline says; then nothing has changed.
bool RankState::move(std::span<const stage::Move> moves) {
  if (moves.empty()) return true;
  if (!places_) {
    std::vector<const Tensor*> tensors;
    for (const auto leaf : tensors_) tensors.push_back(&parts_.leaves[leaf].value.as_tensor());
    places_.emplace(tensors, value::find_extents(tensors));
  }
  if (!places_->move(moves)) return false;
  for (const auto& [tensor, data] : moves) {
    auto& value = parts_.leaves[tensors_[tensor]].value;
    value = with_tensor(value, look_at(value.as_tensor(), data, nullptr));
  }
  return true;
}

std::shared_ptr<Capturing> RankState::capture(
    StagerState& stager, const std::shared_ptr<const ranks::Assignment>& assignment,
    const std::shared_ptr<TicketState>& ticket) {
  // The ticket of a save tells when it is durable, not when it is captured.
  const auto ignore = [](Capturing&, std::exception_ptr) {};
  const auto was = std::exchange(shard_.number, 0);
  const auto number = next_number_++;
  std::shared_ptr<Capturing> capturing;
  if (shard_.assignment != assignment) {
    shard_ = {assignment, ranks::shard_leaves(parts_, *assignment, rank_),
              std::make_shared<const ShardChunks>(chunk_offsets(*assignment, rank_)), 0};
  } else if (was != 0) {
    capturing =
        stager.capture(Again{was, number, {}, moves_in_shard(), owners_}, ticket, false, ignore);
  }
  if (!capturing) capturing = stager.capture(shard_value(), number, ticket, false, ignore);
  shard_.number = number;
  is_captured_ = true;
  return capturing;
}

Value RankState::shard_value() const {
  const auto owner = std::const_pointer_cast<void>(owners_);
  return ranks::shard_of(parts_, shard_.leaves, [&](const Value& leaf) {
    if (leaf.type() != Value::Type::tensor) return leaf;
    const auto& tensor = leaf.as_tensor();
    return with_tensor(leaf, look_at(tensor, tensor.data(), owner));
  });
}

// Those of this call, as the shard counts its tensors.
std::vector<stage::Move> RankState::moves_in_shard() const {
  std::vector<stage::Move> moves;
  auto move = moves_.begin();
  std::size_t counted = 0;
  for (const auto& [leaf, is_made] : shard_.leaves) {
    if (parts_.leaves[leaf].value.type() != Value::Type::tensor) continue;
    while (move != moves_.end() && tensors_[move->first] < leaf) ++move;
    if (move == moves_.end()) break;
    if (tensors_[move->first] == leaf && !is_made) moves.emplace_back(counted, move->second);
    ++counted;
  }
  return moves;
}

std::string RankState::index_part(const ranks::Assignment& assignment) const {
  return !per_rank_.empty() || adds_to_index(assignment, rank_) ? skeleton_ : "";
}

}  // namespace understudy
