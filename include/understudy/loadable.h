// Objects that can say more of what they load, and load in part.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "understudy/value.h"

namespace understudy {

/// How a saved part may differ from the object that takes it.
struct LoadPolicy {
  bool strict = true;    ///< false: what fits is taken, and the rest left as it is
  bool convert = false;  ///< another dtype is converted
  /// Which names of the part are wanted; empty: all.
  std::function<bool(const std::string& name)> wants{};
};

/// What an object says of a saved part. Names are those of the part, without a path.
struct LoadAnswer {
  /// Why the part cannot be taken at all, in one sentence; empty when it can.
  std::string objection{};
  std::vector<std::string> missing{};     ///< that the object has and the part lacks
  std::vector<std::string> unexpected{};  ///< that the part has and the object lacks
  /// Names of both that do not fit, and why: "'w' has shape [2] here, but ...".
  std::vector<std::pair<std::string, std::string>> mismatched{};
  Value state{};  ///< what `load` is to be given: the part, or what of it can be taken
};

/// A Loadable with an answer for everything. A plain one is asked by `check` about all or
/// nothing, and whatever fails in it fails in `load`, when the state has begun to change.
class PartLoadable : public Loadable {
 public:
  /// Called first: of which tensors of `state` only a part is wanted, as a tree like it with a
  /// `chunk` in place of each of those, whose elements are not looked at. What follows is given
  /// chunks there. The tensors of `state` have types and shapes, and no memory behind them. None:
  /// all are wanted whole.
  virtual Value wanted(const Value& state) {
    (void)state;
    return {};
  }
  /// Instead of `check`, and by the same rules.
  virtual LoadAnswer ask(const Value& state, const LoadPolicy& policy) = 0;
  /// The tensors that `load` would write to, as a dict with the names of the saved part;
  /// none where nobody can tell. Two that share memory, while the checkpoint holds different
  /// values for them, are a misfit.
  virtual Value targets() { return {}; }
  /// Called for all objects before the first `load`, with what that will be given. Does
  /// whatever may fail, and must not change anything.
  virtual void prepare(const Value& state) = 0;

  std::string check(const Value& state) final;
};

}  // namespace understudy
