// Comparing a saved state with the caller's own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "restore/aliasing.h"
#include "transfer/copy_tensors.h"
#include "understudy/value.h"

namespace understudy::restore {

struct MatchRules {
  bool strict = true;    ///< false: what does not fit is left as it is, and listed
  bool convert = false;  ///< another dtype is converted
  /// Paths of the target, each with all below it; what they do not take stays, and is not
  /// looked for in the checkpoint. Empty takes all.
  std::vector<std::string> names{};
};

/// What came of laying a saved state over a target.
struct Match {
  struct ObjectPart {
    std::string path;
    std::shared_ptr<Loadable> object;
    Value saved;
  };

  /// One sentence a misfit; empty when the states fit, and always without `strict`.
  std::vector<std::string> misfits;
  /// Paths: of the target only, of the checkpoint only, of both without fitting.
  std::vector<std::string> missing, unexpected, mismatched;
  /// A rename that would help, as Python writes it, or nothing.
  std::string rename;
  /// Saved tensors into the target's. They differ in dtype with `convert` only.
  std::vector<transfer::TensorCopy> copies;
  std::vector<ObjectPart> objects;
  /// All tensors that will be overwritten, those of objects included.
  std::vector<Claim> claims;
  /// The target's tensors and objects with the saved plain data.
  Value merged;
};

/// The rules. Tensors and objects stay: tensors need the same dtype and shape,
/// objects are asked, and what holds tensors or objects must have the saved keys
/// and the saved length; only a list of tensors may be longer in the checkpoint.
/// Plain data, which holds neither, is replaced by what was saved, whatever its size and
/// keys, and number by number of any kind (a saved tensor without dimensions is one).
/// None stands for what is not known yet and takes anything; saved, it takes the
/// place of any plain data. A text is no number, and a list no dict: that is a misfit.
/// The root counts as holding tensors. Without `strict`, plain dicts keep what only they
/// have. Throws Error(not_found) for a name that neither side has.
Match match(const Value& target, const Value& saved, const MatchRules& rules = {});

}  // namespace understudy::restore
