// Tensors that a file has in C order, given back the form that they had in memory.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "transfer/copy_tensors.h"
#include "understudy/tensor.h"
#include "value/file_form.h"

namespace understudy::restore {

/// Makes the runs of memory that tensors shared, and says what is to be copied there.
class Arranger {
 public:
  /// `data_nbytes`: of the file; it bounds what its tree may ask for.
  Arranger(std::string file, std::uint64_t data_nbytes)
      : file_(std::move(file)), data_nbytes_(data_nbytes) {}

  /// `in_file` (whose bytes may come later) as it lay in memory, over new memory of zeros. Throws
  /// Error(corrupt) for more memory than any file of ours needs.
  Tensor place(const Tensor& in_file, const value::InMemory& form);

  /// Bytes of new memory so far.
  std::uint64_t nbytes() const noexcept { return nbytes_; }
  /// From the tensors in the file to their places. Forgets them.
  std::vector<transfer::TensorCopy> take_copies() { return std::exchange(copies_, {}); }

 private:
  std::string file_;
  std::uint64_t data_nbytes_;
  std::uint64_t nbytes_ = 0;
  std::map<std::uint32_t, std::shared_ptr<const Storage>> runs_;
  std::vector<transfer::TensorCopy> copies_;
};

}  // namespace understudy::restore
