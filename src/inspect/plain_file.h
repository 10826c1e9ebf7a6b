// A plain safetensors file to be: dense entries, no tree, no checksums.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "format/safetensors.h"
#include "inspect/gather.h"
#include "store/source.h"
#include "understudy/tensor.h"

namespace understudy::inspect {

struct PlainTensor {
  std::string name;
  Tensor tensor;
};

/// Gathers tensors block by block, so that it needs no memory beside the
/// writer's; `gather` reads them. Entries go by descending item size, then name, as the reference
/// writer orders them; so all are aligned.
class PlainFile : public store::ShardSource {
 public:
  /// Throws Error(unsupported) for a dtype that safetensors lacks or a header
  /// that is too large; `what` names the file in messages.
  PlainFile(std::vector<PlainTensor> tensors,
            std::vector<std::pair<std::string, std::string>> metadata, const std::string& what,
            Gather gather);

  std::uint64_t header_nbytes() const override { return header_.size(); }
  std::uint64_t data_nbytes() const override { return data_nbytes_; }
  std::span<const std::byte> block(std::uint64_t index, std::span<std::byte> scratch) override;
  std::vector<std::byte> seal(std::span<const std::uint64_t> checksums,
                              std::string& digest) override;

 private:
  Gather gather_;
  std::vector<PlainTensor> tensors_;
  std::vector<format::Entry> entries_;
  std::vector<std::byte> header_;
  std::uint64_t data_nbytes_ = 0;
};

}  // namespace understudy::inspect
