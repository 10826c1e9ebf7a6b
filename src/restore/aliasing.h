// Targets that share memory, where the checkpoint holds different values.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/worker_pool.h"
#include "understudy/tensor.h"
#include "value/file_form.h"

namespace understudy::restore {

/// A saved tensor and the tensor that it will overwrite.
struct Claim {
  std::string path;
  Tensor from;
  Tensor to;
  /// How the saved one lay in memory, if `from` is how it lies in the file.
  std::optional<value::InMemory> form{};
};

/// Finds claims of which one would overwrite what another has written.
class AliasCheck {
 public:
  /// Keeps the claims that may be in conflict: their targets share bytes, with each other or
  /// within one, and the saved ones do not share theirs in just that way. For ordinary states
  /// that is none. Looks at no bytes.
  explicit AliasCheck(std::vector<Claim> claims);

  /// Those claims. Before `conflicts` each `from` must have its bytes.
  std::vector<Claim>& claims() noexcept { return claims_; }

  /// A sentence for each group of targets in which one would not get its value.
  std::vector<std::string> conflicts(WorkerPool& copiers) const;

 private:
  std::string conflict(std::size_t begin, std::size_t end, WorkerPool& copiers) const;

  std::vector<Claim> claims_;
  std::vector<std::size_t> group_ends_;  // in claims_
};

}  // namespace understudy::restore
