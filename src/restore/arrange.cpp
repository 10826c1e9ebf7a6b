#include "restore/arrange.h"

#include "base/error.h"

namespace understudy::restore {

Tensor Arranger::place(const Tensor& in_file, const value::InMemory& form) {
  auto& run = runs_[form.run];
  if (!run) {
    // Runs are at most twice their tensors' bytes (value::file_form), all of which are in the file,
    // and a little padding.
    constexpr std::uint64_t kPadding = 16;
    const auto most = 2 * data_nbytes_ + kPadding * runs_.size();
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
