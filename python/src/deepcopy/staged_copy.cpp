// The bytes of staged storages: copied when all is known, put back when it fails.
#include "core/gil.h"
#include "deepcopy/staged_parts.h"
#include "frameworks/torch_memory.h"

namespace understudy::python {

void StagedStorages::flush(bool non_blocking, bool may_fail) {
  auto pending = std::exchange(pending_, {});
  if (may_fail && reuse_ == Reuse::mirror) keep(pending);
  const auto aside = set_aside(pending);
  std::vector<ByteCopy> copies, all;
  std::vector<Pending> others;
  copies.reserve(pending.size());
  for (const auto& p : pending) {
    all.push_back(p.copy);
    if (p.staged->is_host) {
      copies.push_back(p.copy);
    } else {
      others.push_back(p);
    }
  }
  if (!others.empty()) {
    // For torch, which copies these, neither makes pages nor pins them.
    WithoutGil no_gil;
    mirror_->prepare(all);
  }
  if (!copies.empty()) {
    WithoutGil no_gil;
    mirror_->copy(copies);
  }
  if (!others.empty()) copy_from_devices(others, non_blocking);
}

// A state may hold what an earlier call returned, which this call overwrites:
// the bytes that it had when the call began are copied first. Returns the memory
// that these copies come from now.
std::vector<std::shared_ptr<const Buffer>> StagedStorages::set_aside(
    std::vector<Pending>& pending) {
  std::vector<std::shared_ptr<const Buffer>> aside;
  std::vector<ByteCopy> now, before;
  for (auto& p : pending) {
    auto& staged = *p.staged;
    if (!staged.is_host) continue;
    if (staged.looked != moves_) {
      staged.is_result = is_in_copies(staged.from, staged.nbytes);
      staged.looked = moves_;
    }
    if (!staged.is_result) continue;
    auto* const to = aside.emplace_back(mirror_->take(p.copy.nbytes))->data;
    now.push_back({p.copy.from, to, p.copy.nbytes});
    // Some of it may have been overwritten in this call already.
    for (const auto& u : undo_) {
      const auto begin = std::max<const std::byte*>(p.copy.from, u.at);
      const auto end =
          std::min<const std::byte*>(p.copy.from + p.copy.nbytes, u.at + u.before->nbytes);
      if (begin >= end) continue;
      before.push_back({u.before->data + (begin - u.at), to + (begin - p.copy.from),
                        static_cast<std::uint64_t>(end - begin)});
    }
    p.copy.from = to;
  }
  if (now.empty()) return aside;
  WithoutGil no_gil;
  mirror_->copy(now);
  mirror_->copy(before);
  return aside;
}

void StagedStorages::keep(const std::vector<Pending>& pending) {
  std::vector<ByteCopy> copies;
  for (const auto& p : pending) {
    if (p.is_new) continue;
    auto before = mirror_->take(p.copy.nbytes);
    copies.push_back({p.copy.to, before->data, p.copy.nbytes});
    undo_.push_back({p.copy.to, std::move(before)});
  }
  if (copies.empty()) return;
  WithoutGil no_gil;
  mirror_->copy(copies);
}

// By torch, on its current stream.
void StagedStorages::copy_from_devices(const std::vector<Pending>& pending, bool non_blocking) {
  const auto uint8 = torch_.module.attr("uint8");
  const auto empty = torch_.module.attr("empty");
  const auto helper = nb::module_::import_("understudy._tensors");
  std::unordered_map<std::string, nb::object> devices;
  for (const auto& p : pending) {
    const nb::object device = p.source.attr("device");
    devices.emplace(text_of(nb::str(device)), device);
  }
  for (const auto& [name, device] : devices) helper.attr("wait_for_trainer")(device);
  for (const auto& p : pending) {
    const Dims shape{static_cast<std::int64_t>(p.copy.nbytes)};
    const auto to = torch_view_of(torch_, p.staged->home.storage, uint8, 0, shape, {1});
    const nb::object from =
        empty(0, nb::arg("dtype") = uint8, nb::arg("device") = p.source.attr("device"))
            .attr("set_")(p.source);
    to.attr("copy_")(from, nb::arg("non_blocking") = non_blocking);
  }
}

void StagedStorages::end() {
  undo_.clear();
  segment_.reset();
  if (reuse_ == Reuse::lease) {
    met_.clear();
    for (auto& [source, staged] : table_) {
      staged.views.clear();
      staged.home.storage.reset();
    }
  }
  mirror_->trim();
}

void StagedStorages::fail() {
  pending_.clear();
  std::vector<ByteCopy> copies;
  // The oldest last: it is what was there before the call.
  for (auto u = undo_.rbegin(); u != undo_.rend(); ++u) {
    copies.push_back({u->before->data, u->at, u->before->nbytes});
  }
  if (!copies.empty()) {
    WithoutGil no_gil;
    mirror_->copy(copies);
  }
  end();
}

bool StagedStorages::is_leased() const {
  return lease_.use_count() > 1;
}

}  // namespace understudy::python
