// Comparing a saved state with the caller's own, strictly.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transfer/copy_tensors.h"
#include "understudy/value.h"

namespace understudy::restore {

/// What came of laying a saved state over a target.
struct Match {
  struct ObjectPart {
    std::string path;
    std::shared_ptr<Loadable> object;
    Value saved;
  };

  /// One sentence a misfit; empty when the states fit.
  std::vector<std::string> misfits;
  std::vector<transfer::TensorCopy> copies;  ///< saved tensors into the target's
  std::vector<ObjectPart> objects;
  /// The target's tensors and objects with the saved scalars.
  Value merged;
};

/// The rules. Dicts must have the same keys; tuples, and lists that hold
/// tensors or objects, the same length; tensors the same dtype and shape;
/// scalars the same type, where None goes with any. A list of plain data is
/// taken as it was saved, whatever its length. Objects take what they find:
/// each Loadable is asked and its objections are misfits too.
Match match(const Value& target, const Value& saved);

}  // namespace understudy::restore
