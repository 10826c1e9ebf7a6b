#include "transfer/copy_tensors.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "value/extents.h"

namespace understudy::transfer {
namespace {

// As in plan.cpp: pieces that cost nothing to hand out.
constexpr std::uint64_t kPieceNbytes = std::uint64_t{1} << 20;

void copy_strided(const std::byte* from, std::byte* to, const Tensor& source, const Tensor& target,
                  std::size_t dim) {
  const auto item = static_cast<std::int64_t>(item_size(source.dtype()));
  if (dim == source.shape().size()) {
    std::memcpy(to, from, static_cast<std::size_t>(item));
    return;
  }
  const auto n = source.shape()[dim];
  const auto from_step = source.strides()[dim] * item, to_step = target.strides()[dim] * item;
  if (dim + 1 == source.shape().size() && from_step == item && to_step == item) {
    std::memcpy(to, from, static_cast<std::size_t>(n * item));
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    copy_strided(from + i * from_step, to + i * to_step, source, target, dim + 1);
  }
}

// A run of whole copies [first, last), or bytes [begin, end) of one.
struct Job {
  std::size_t first, last;
  std::uint64_t begin = 0, end = 0;
};

class Jobs {
 public:
  explicit Jobs(const std::vector<TensorCopy>& copies) : copies_(copies) {
    std::vector<const Tensor*> targets;
    for (const auto& c : copies) targets.push_back(&c.to);
    const auto placements = value::find_extents(targets).placements;
    std::map<std::uint32_t, std::vector<std::size_t>> by_extent;
    for (std::size_t i = 0; i < copies.size(); ++i) by_extent[placements[i].extent].push_back(i);
    for (auto& [extent, members] : by_extent) add(members);
  }

  void run(WorkerPool& workers) const {
    workers.run(jobs_.size(), [&](std::uint64_t j, int) {
      const auto& job = jobs_[j];
      if (job.end > 0) {
        const auto& c = copies_[order_[job.first]];
        std::memcpy(c.to.data() + job.begin, c.from.data() + job.begin, job.end - job.begin);
        return;
      }
      for (auto i = job.first; i < job.last; ++i) copy_whole(copies_[order_[i]]);
    });
  }

 private:
  void add(const std::vector<std::size_t>& members) {
    const auto first = order_.size();
    std::uint64_t nbytes = 0;
    for (const auto i : members) {
      order_.push_back(i);
      nbytes += copies_[i].to.nbytes();
    }
    const auto& c = copies_[members[0]];
    if (members.size() == 1 && c.from.is_contiguous() && c.to.is_contiguous() &&
        nbytes > kPieceNbytes) {
      for (std::uint64_t at = 0; at < nbytes; at += kPieceNbytes) {
        jobs_.push_back({first, first + 1, at, std::min(nbytes, at + kPieceNbytes)});
      }
      open_nbytes_ = kPieceNbytes + 1;
      return;
    }
    // Small ones travel together.
    if (open_nbytes_ + nbytes > kPieceNbytes) {
      jobs_.push_back({first, first, 0, 0});
      open_nbytes_ = 0;
    }
    jobs_.back().last = order_.size();
    open_nbytes_ += nbytes;
  }

  static void copy_whole(const TensorCopy& c) {
    if (c.from.numel() == 0) return;
    if (c.from.is_contiguous() && c.to.is_contiguous()) {
      std::memcpy(c.to.data(), c.from.data(), c.to.nbytes());
    } else {
      copy_strided(c.from.data(), c.to.data(), c.from, c.to, 0);
    }
  }

  const std::vector<TensorCopy>& copies_;
  std::vector<std::size_t> order_;
  std::vector<Job> jobs_;
  // Bytes in the last job; at the limit there is no job to add to.
  std::uint64_t open_nbytes_ = kPieceNbytes + 1;
};

}  // namespace

void copy_tensors(const std::vector<TensorCopy>& copies, WorkerPool& workers) {
  Jobs(copies).run(workers);
}

}  // namespace understudy::transfer
