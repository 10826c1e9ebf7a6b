#include "restore/arrange.h"

#include "base/error.h"

namespace understudy::restore {

Tensor Arranger::place(const Tensor& in_file, const value::InMemory& form) {
  auto& run = runs_[form.run];
  if (!run) {
    // All tensors of a run are in the file. Its length is rounded down where that is judged.
    const auto most = value::kMaxGaps * (data_nbytes_ + runs_.size());
    if (form.run_nbytes > most || nbytes_ + form.run_nbytes > most) {
      fail(ErrorCode::corrupt,
           "{}: the tree asks for {} bytes of memory for tensors that share it, and the file has "
           "only {}",
           file_, nbytes_ + form.run_nbytes, data_nbytes_);
    }
    run = Storage::allocate(form.run_nbytes);
    nbytes_ += form.run_nbytes;
  } else if (run->nbytes() != form.run_nbytes) {
    fail(ErrorCode::corrupt, "{}: the tree gives run {} of memory both {} and {} bytes", file_,
         form.run, run->nbytes(), form.run_nbytes);
  }
  Tensor placed(run, in_file.dtype(), in_file.shape(), form.strides, form.byte_offset);
  copies_.push_back({in_file, placed});
  return placed;
}

}  // namespace understudy::restore
