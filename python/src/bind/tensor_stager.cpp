// What stands behind understudy.torch.StateDictStager and
// understudy.dcp.AsyncStager: deep copies with staged tensors.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <mutex>
#include <thread>

#include "bind/bindings.h"
#include "bind/options.h"
#include "core/errors.h"
#include "core/gil.h"
#include "core/refs.h"
#include "core/waiting.h"
#include "deepcopy/deepcopy.h"
#include "understudy/process.h"

namespace understudy::python {
namespace {

// A lock that a thread may take again, waited for without the GIL.
class CallLock {
 public:
  class Hold {
   public:
    explicit Hold(CallLock& lock) : lock_(lock) { lock_.take(); }
    ~Hold() { lock_.give(); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    CallLock& lock_;
  };

  int depth() const { return depth_; }

 private:
  void take() {
    if (owner_ != std::this_thread::get_id()) {
      if (!mutex_.try_lock()) {
        wait_in_slices({}, [&](auto slice) { return mutex_.try_lock_for(slice); });
      }
      owner_ = std::this_thread::get_id();
    }
    ++depth_;
  }
  void give() {
    if (--depth_ > 0) return;
    owner_ = {};
    mutex_.unlock();
  }

  std::timed_mutex mutex_;
  std::thread::id owner_;  // under the GIL, as depth_
  int depth_ = 0;
};

class TensorStager {
 public:
  TensorStager(Memory memory, std::optional<int> threads, Reuse reuse, bool pin,
               std::uint64_t pin_min_nbytes)
      : mirror_(std::make_shared<Mirror>(MirrorOptions{.memory = memory,
                                                       .pin = pin,
                                                       .pin_min_nbytes = pin_min_nbytes,
                                                       .threads = threads.value_or(0)})),
        storages_(mirror_, memory == Memory::shared, reuse) {}

  nb::object stage(nb::handle x, nb::handle memo, nb::handle nil, bool non_blocking) {
    const Entry entry;
    require_home();
    if (!memo.is_none() && PyDict_Check(memo.ptr()) == 0)
      throw nb::type_error("memo must be a dict");
    const CallLock::Hold hold(lock_);
    const bool is_outermost = lock_.depth() == 1;
    // A call from inside a call goes through Python's own machinery.
    constexpr int kLevelsOfACall = 8;
    const Level level(is_outermost ? 1 : kLevelsOfACall);
    if (is_outermost) storages_.begin();
    try {
      DeepCopier copier(storages_, memo.is_none() ? nullptr : memo.ptr(), nil.ptr(), non_blocking,
                        is_outermost ? last_met_ : 0);
      auto y = copier.copy(x);
      if (is_outermost) last_met_ = copier.met();
      storages_.flush(non_blocking, !is_outermost);
      if (is_outermost) storages_.end();
      return y;
    } catch (...) {
      if (is_outermost) storages_.fail();
      throw;
    }
  }

  bool is_leased() {
    const Entry entry;
    require_home();
    const CallLock::Hold hold(lock_);
    return storages_.is_leased();
  }

  void close() {
    const Entry entry;
    if (!home_.is_here()) return;
    const CallLock::Hold hold(lock_);
    if (lock_.depth() > 1) {
      fail(ErrorCode::invalid, "the stager cannot be closed from inside its own call");
    }
    storages_.clear();
    mirror_->clear();
  }

  std::uint64_t nbytes() const { return mirror_->nbytes(); }

 private:
  void require_home() const { home_.require("a stager"); }

  const HomeProcess home_;
  std::shared_ptr<Mirror> mirror_;
  StagedStorages storages_;
  CallLock lock_;
  std::size_t last_met_ = 0;
};

}  // namespace

void bind_tensor_stager(nb::module_& m) {
  nb::class_<SharedSegment>(m, "SharedSegment", nb::is_weak_referenceable(),
                            "Memory that processes share, with torch storages in it. Private.")
      .def_static(
          "map", [](int fd, std::uint64_t nbytes) { return make_segment(map_buffer(fd, nbytes)); },
          nb::arg("fd"), nb::arg("nbytes"))
      .def_static(
          "at",
          [](std::uintptr_t address) { return segment_at(reinterpret_cast<std::byte*>(address)); },
          nb::arg("address"))
      .def(
          "storage",
          [](const std::shared_ptr<SharedSegment>& self, std::uint64_t offset,
             std::uint64_t nbytes) {
            if (offset > self->nbytes() || nbytes > self->nbytes() - offset) {
              fail(ErrorCode::invalid, "bytes [{}, {} + {}) lie outside of {} bytes", offset,
                   offset, nbytes, self->nbytes());
            }
            return storage_in_segment(*torch_or_import(), self->data() + offset, nbytes, self);
          },
          nb::arg("offset"), nb::arg("nbytes"))
      .def_prop_ro(
          "data_ptr",
          [](const SharedSegment& self) { return reinterpret_cast<std::uintptr_t>(self.data()); })
      .def_prop_ro("fd", &SharedSegment::fd)
      .def_prop_ro("nbytes", &SharedSegment::nbytes);
  nb::class_<TensorStager>(m, "TensorStager", nb::is_weak_referenceable(),
                           "Deep copies of objects with their tensors' storages staged. Private.")
      .def(
          "__init__",
          [](TensorStager* self, const std::string& memory, std::optional<int> threads, bool lease,
             bool pin, std::uint64_t pin_min_nbytes) {
            const Entry entry;
            new (self) TensorStager(memory_of(memory), threads,
                                    lease ? Reuse::lease : Reuse::mirror, pin, pin_min_nbytes);
          },
          nb::kw_only(), nb::arg("memory") = "pageable", nb::arg("threads") = nb::none(),
          nb::arg("lease") = false, nb::arg("pin") = false, nb::arg("pin_min_nbytes") = 0)
      .def("stage", &TensorStager::stage, nb::arg("x").none(), nb::arg("memo").none(),
           nb::arg("nil").none(), nb::arg("non_blocking"))
      .def("is_leased", &TensorStager::is_leased)
      .def("close", &TensorStager::close)
      .def_prop_ro("nbytes", &TensorStager::nbytes);
}

}  // namespace understudy::python
