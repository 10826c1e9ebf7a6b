#include "stage/last_plan.h"

#include <utility>

#include "stage/overlapped.h"
#include "stage/snapshot.h"
#include "stage/structure.h"
#include "value/extents.h"
#include "value/walk.h"

namespace understudy::stage {
namespace {

std::vector<std::string> paths_of(const Value& state) {
  std::vector<std::string> paths;
  value::walk(state, [&](const value::Path& path, const Value& node) {
    if (node.type() == Value::Type::tensor) paths.push_back(path.str());
    return !is_blob(node);
  });
  return paths;
}

// Those of `tensors`, in walk order, that lie elsewhere now.
std::vector<Move> moves_to(const std::vector<const Tensor*>& tensors, const Places& places) {
  std::vector<Move> moves;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    auto* const address = tensors[i]->data();
    if (address != places.address(i)) moves.emplace_back(i, address);
  }
  return moves;
}

}  // namespace

const StatePlan& LastPlan::plan_for(const Value& state, std::uint64_t number,
                                    std::vector<Value>& opaques) {
  number_ = 0;  // whatever fails below, it is not that state any more
  auto structure = examine(state);
  opaques = std::move(structure.opaques);
  if (!keep(state, structure.signature, structure.tensors)) {
    plan_.reset();
    auto extents = value::find_extents(structure.tensors);
    places_.emplace(structure.tensors, extents);
    const auto layout = std::make_shared<const format::Layout>(
        format::make_layout(state, extents, header_metadata({})));
    scalars_.clear();
    auto tree = format::encode_tree(state, layout->leaves, &scalars_);
    plan_.emplace(StatePlan{
        layout, transfer::Plan(*layout, std::move(extents)), next_layout_id_++, next_places_id_++,
        std::make_shared<const std::vector<std::string>>(paths_of(state)), std::move(tree), "new"});
    signature_ = std::move(structure.signature);
  }
  plan_->transfer.set_blobs(std::move(structure.blobs));
  number_ = number;
  return *plan_;
}

// Whether the plan is that of this state, too; then it has its scalars and places.
bool LastPlan::keep(const Value& state, const std::string& signature,
                    const std::vector<const Tensor*>& tensors) {
  if (!plan_ || signature_ != signature) return false;
  std::vector<format::Span> scalars;
  auto tree = format::encode_tree(state, plan_->layout->leaves, &scalars);
  if (!format::fits(*plan_->layout, tree, header_metadata({}))) return false;
  if (!move(moves_to(tensors, *places_))) return false;
  plan_->tree = std::move(tree);
  plan_->origin = "same";
  scalars_ = std::move(scalars);
  return true;
}

const StatePlan* LastPlan::plan_for(const Again& again, bool once_more) {
  if (once_more && again.is != 0 && number_ == again.is) return &*plan_;
  if (again.was == 0 || number_ != again.was) return nullptr;
  if (again.scalars.empty()) {
    if (!move(again.moves)) return nullptr;
  } else {
    auto tree = plan_->tree;
    auto scalars = scalars_;
    format::exchange_scalars(tree, scalars, again.scalars);
    if (!format::fits(*plan_->layout, tree, header_metadata({}))) return nullptr;
    if (!move(again.moves)) return nullptr;
    plan_->tree = std::move(tree);
    scalars_ = std::move(scalars);
  }
  plan_->origin = "again";
  number_ = again.is;
  return &*plan_;
}

// False when that takes another plan; then nothing has changed.
bool LastPlan::move(std::span<const Move> moves) {
  if (moves.empty()) return true;
  const auto moved = places_->move(moves);
  if (!moved) return false;
  for (const auto& m : *moved) {
    plan_->transfer.move_extent(m.extent, m.by_nbytes);
    // What is smaller is copied at once wherever it lies.
    if (m.nbytes >= kProtectedNbytes) plan_->places_id = next_places_id_++;
  }
  return true;
}

}  // namespace understudy::stage
