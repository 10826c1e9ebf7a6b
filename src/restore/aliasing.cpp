#include "restore/aliasing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "transfer/copy_tensors.h"
#include "value/coverage.h"
#include "value/extents.h"

namespace understudy::restore {
namespace {

// More elements than places for them.
bool overlaps_itself(const Tensor& t) {
  const auto coverage = value::cover(t);
  return !coverage.is_regular || coverage.used_nbytes() < t.nbytes();
}

// The saved tensors share bytes as the targets do, so that equal places get equal values.
bool share_alike(const std::vector<const Claim*>& group) {
  // Where the saved one lay, seen from the target. Runs of memory and the file count from nothing.
  const auto distance = [](const Claim& c) {
    const auto origin =
        c.form ? c.form->byte_offset : reinterpret_cast<std::uintptr_t>(c.from.data());
    return origin - reinterpret_cast<std::uintptr_t>(c.to.data());
  };
  const auto run = [](const Claim& c) {
    return c.form ? std::optional(c.form->run) : std::nullopt;
  };
  const Claim& first = *group.front();
  return std::ranges::all_of(group, [&](const Claim* c) {
    return run(*c) == run(first) && distance(*c) == distance(first) &&
           c->from.dtype() == c->to.dtype() &&
           (c->form ? c->form->strides : c->from.strides()) == c->to.strides();
  });
}

// Memory that stands for what a group of targets shares.
class Shadow {
 public:
  Shadow(const std::vector<const Claim*>& group, WorkerPool& copiers) : copiers_(copiers) {
    begin_ = value::cover(group.front()->to).begin;
    value::Address end = begin_;
    for (const auto* c : group) {
      const auto coverage = value::cover(c->to);
      begin_ = std::min(begin_, coverage.begin);
      end = std::max(end, coverage.end());
    }
    storage_ = Storage::allocate(end - begin_);
  }

  void write(const Claim& c) const { transfer::copy_tensors({{c.from, place_of(c.to)}}, copiers_); }

  // Whether the claim's value is there to the last bit.
  bool has(const Claim& c) const {
    const auto wanted = Tensor::zeros(c.to.dtype(), c.to.shape());
    const auto found = Tensor::zeros(c.to.dtype(), c.to.shape());
    transfer::copy_tensors({{c.from, wanted}, {place_of(c.to), found}}, copiers_);
    return std::memcmp(wanted.data(), found.data(), wanted.nbytes()) == 0;
  }

 private:
  Tensor place_of(const Tensor& t) const {
    const auto offset = reinterpret_cast<value::Address>(t.data()) - begin_;
    return {storage_, t.dtype(), t.shape(), t.strides(), offset};
  }

  WorkerPool& copiers_;
  value::Address begin_ = 0;
  std::shared_ptr<const Storage> storage_;
};

}  // namespace

AliasCheck::AliasCheck(std::vector<Claim> claims) {
  std::erase_if(claims, [](const Claim& c) { return c.to.numel() == 0; });
  std::vector<const Tensor*> targets;
  for (const auto& c : claims) targets.push_back(&c.to);
  const auto placements = value::find_extents(targets).placements;
  std::map<std::uint32_t, std::vector<const Claim*>> groups;
  for (std::size_t i = 0; i < claims.size(); ++i) {
    groups[placements[i].extent].push_back(&claims[i]);
  }
  for (const auto& [extent, group] : groups) {
    if (group.size() == 1 && !overlaps_itself(group.front()->to)) continue;
    if (share_alike(group)) continue;
    for (const auto* c : group) claims_.push_back(*c);
    group_ends_.push_back(claims_.size());
  }
}

std::vector<std::string> AliasCheck::conflicts(WorkerPool& copiers) const {
  std::vector<std::string> found;
  std::size_t begin = 0;
  for (const auto end : group_ends_) {
    if (auto sentence = conflict(begin, end, copiers); !sentence.empty()) {
      found.push_back(std::move(sentence));
    }
    begin = end;
  }
  return found;
}

std::string AliasCheck::conflict(std::size_t begin, std::size_t end, WorkerPool& copiers) const {
  std::vector<const Claim*> group;
  for (auto i = begin; i < end; ++i) group.push_back(&claims_[i]);
  const Shadow all(group, copiers);
  for (const auto* c : group) all.write(*c);
  const auto lost = std::ranges::find_if(group, [&](const Claim* c) { return !all.has(*c); });
  if (lost == group.end()) return {};
  const Shadow two({*lost}, copiers);
  two.write(**lost);
  if (!two.has(**lost)) {
    return fmt::format(
        "'{}' has elements that share memory here and have different values in the checkpoint",
        (*lost)->path);
  }
  for (const auto* other : group) {
    const Shadow pair({*lost, other}, copiers);
    pair.write(**lost);
    pair.write(*other);
    if (pair.has(**lost)) continue;
    return fmt::format(
        "'{}' and '{}' share memory here and have different values in the checkpoint",
        (*lost)->path, other->path);
  }
  return fmt::format("'{}' shares memory here with others, and not in the checkpoint",
                     (*lost)->path);
}

}  // namespace understudy::restore
