#include "inspect/gather.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace understudy::inspect {
namespace {

/// Stands on one element and goes through all of them in C order.
class Cursor {
 public:
  Cursor(const Tensor& tensor, std::uint64_t element)
      : tensor_(tensor), index_(tensor.shape().size()) {
    for (std::size_t d = index_.size(); d-- > 0;) {
      const auto n = static_cast<std::uint64_t>(tensor.shape()[d]);
      index_[d] = static_cast<std::int64_t>(element % n);
      element /= n;
      offset_ += index_[d] * tensor.strides()[d];
    }
  }

  const std::byte* data() const {
    return tensor_.data() + offset_ * static_cast<std::int64_t>(item_size(tensor_.dtype()));
  }

  void advance() {
    for (std::size_t d = index_.size(); d-- > 0;) {
      offset_ += tensor_.strides()[d];
      if (++index_[d] < tensor_.shape()[d]) return;
      offset_ -= index_[d] * tensor_.strides()[d];
      index_[d] = 0;
    }
  }

 private:
  const Tensor& tensor_;
  std::vector<std::int64_t> index_;
  std::int64_t offset_ = 0;  // in elements
};

}  // namespace

void gather(const Tensor& tensor, std::uint64_t begin, std::span<std::byte> out) {
  if (out.empty()) return;
  if (tensor.is_contiguous()) {
    std::memcpy(out.data(), tensor.data() + begin, out.size());
    return;
  }
  const auto item = std::uint64_t{item_size(tensor.dtype())};
  Cursor cursor(tensor, begin / item);
  auto skip = begin % item;  // of the first element
  for (std::uint64_t done = 0; done < out.size();) {
    const auto n = std::min(item - skip, out.size() - done);
    std::memcpy(out.data() + done, cursor.data() + skip, n);
    done += n;
    skip = 0;
    cursor.advance();
  }
}

}  // namespace understudy::inspect
