// The bytes of staged storages: copied when all is known, put back when it fails.
#include "deepcopy/staged_parts.h"
#include "frameworks/torch_memory.h"

namespace understudy::python {

void StagedStorages::flush(bool non_blocking, bool may_fail) {
  auto pending = std::exchange(pending_, {});
  if (may_fail && reuse_ == Reuse::mirror) keep(pending);
  std::vector<ByteCopy> copies, all;
  std::vector<Pending> others;
  copies.reserve(pending.size());
  for (const auto& p : pending) {
    all.push_back(p.copy);
    if (p.is_host) {
      copies.push_back(p.copy);
    } else {
      others.push_back(p);
    }
  }
  if (!others.empty() || pin_min_nbytes_) {
    // Before anybody copies: pinning whole pages is fast, and what fails has
    // changed nothing.
    {
      nb::gil_scoped_release no_gil;
      mirror_->prepare(all);
    }
    pin(pending);
  }
  if (!copies.empty()) {
    nb::gil_scoped_release no_gil;
    mirror_->copy(copies);
  }
  if (!others.empty()) copy_from_devices(others, non_blocking);
}

void StagedStorages::pin(const std::vector<Pending>& pending) {
  if (!pin_min_nbytes_) return;
  for (const auto& p : pending) {
    auto& home = *p.home;
    if (!home.is_shared() || home.pin || home.buffer->nbytes < *pin_min_nbytes_) continue;
    home.pin = mirror_->pin(reinterpret_cast<std::byte*>(home.torch_address), home.buffer->nbytes);
  }
}

// A storage that no source needs stays pinned while results of earlier calls lie
// in it.
void StagedStorages::unpin_retired() {
  if (retired_.empty()) return;
  const auto count = torch_.module.attr("_C").attr("_storage_Use_Count");
  std::erase_if(retired_, [&](const auto& home) {
    return nb::cast<int>(count(home->storage.attr("_cdata"))) <= 1;
  });
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
  nb::gil_scoped_release no_gil;
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
    const auto to = torch_view_of(torch_, p.to, uint8, p.offset, shape, {1});
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
      auto& home = *staged.home;
      if (home.storage.is_valid() && home.is_shared()) {
        shared_leases_.push_back(steal_or_throw(PyWeakref_NewRef(home.storage.ptr(), nullptr)));
      }
      home.storage.reset();
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
    nb::gil_scoped_release no_gil;
    mirror_->copy(copies);
  }
  end();
}

bool StagedStorages::is_leased() const {
  const auto is_alive = [](const nb::object& weak) { return !weak().is_none(); };
  return lease_.use_count() > 1 ||
         std::any_of(shared_leases_.begin(), shared_leases_.end(), is_alive);
}

}  // namespace understudy::python
