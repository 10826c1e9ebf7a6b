// The plan of the last state, which is the next one's as a rule.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "format/layout.h"
#include "stage/places.h"
#include "transfer/plan.h"
#include "understudy/again.h"
#include "understudy/value.h"

namespace understudy::stage {

struct StatePlan {
  std::shared_ptr<const format::Layout> layout;
  transfer::Plan transfer;
  std::uint64_t layout_id;  ///< never 0, and another for another layout
  std::uint64_t places_id;  ///< another when something that may be protected has moved
  /// Of the tensor leaves, for messages.
  std::shared_ptr<const std::vector<std::string>> paths;
  std::string tree;    ///< of the last state
  std::string origin;  ///< for the ticket
};

class LastPlan {
 public:
  /// The plan for `state`, with its blobs and scalars in place: the last one, if
  /// the structure is the same and tensors that have moved share no bytes, else a
  /// new one. `number` names the state for a later `again`; 0: there will be none.
  /// `opaques` gets those without a pickle. When this throws there is no last state.
  const StatePlan& plan_for(const Value& state, std::uint64_t number, std::vector<Value>& opaques);

  /// The same for what has changed in the last state. Null, and nothing has
  /// changed: it was another, or takes another plan. `once_more`: it may be that state already.
  const StatePlan* plan_for(const Again& again, bool once_more);

 private:
  bool keep(const Value& state, const std::string& signature,
            const std::vector<const Tensor*>& tensors);
  bool move(std::span<const Move> moves);

  std::optional<StatePlan> plan_;
  std::string signature_;
  std::optional<Places> places_;
  std::vector<format::Span> scalars_;  // in the tree
  std::uint64_t number_ = 0;
  std::uint64_t next_layout_id_ = 1;  // 0 is fresh memory
  std::uint64_t next_places_id_ = 1;
};

}  // namespace understudy::stage
