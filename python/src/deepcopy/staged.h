// Staged storages: one copy of each source storage, and tensors over the copies.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "deepcopy/shared_segment.h"
#include "frameworks/frameworks.h"
#include "understudy/mirror.h"

namespace understudy::python {

/// How long a copy belongs to its source.
enum class Reuse {
  /// The same buffer at each call: an earlier result changes.
  mirror,
  /// The results of a call keep their buffers until they are dropped; the
  /// owner asks `is_leased` before it calls again.
  lease,
};

/// The table of a stager. Under the GIL throughout, which only `flush` gives up
/// while bytes are copied. Nothing is copied before `flush`: until then the
/// tensors that `stage` returned hold what their buffers held.
class StagedStorages {
 public:
  StagedStorages(std::shared_ptr<Mirror> mirror, bool is_shared, Reuse reuse);
  ~StagedStorages();
  StagedStorages(const StagedStorages&) = delete;
  StagedStorages& operator=(const StagedStorages&) = delete;

  /// Between `begin` and `end` each storage is copied once.
  void begin();
  /// A plain tensor over the staged storage of the plain tensor `x`: the same
  /// dtype, shape, strides and offset. Null for what the exchange table does
  /// not describe (see _tensors.py). Throws Error(no_space).
  nb::object stage(PyObject* x);
  /// The staged storage of an UntypedStorage.
  nb::object stage_storage(nb::handle storage);
  /// Copies what has been asked for since the last time. `may_fail`: more of
  /// this call follows, which may fail, and what it overwrites is kept.
  void flush(bool non_blocking, bool may_fail);
  /// After success: lets go of what no source needs any more.
  void end();
  /// After a failure: puts back what earlier results held.
  void fail();

  bool is_leased() const;
  /// Forgets all copies. Results that exist stay as they are.
  void clear();

 private:
  struct Home;
  struct View;
  struct Result;
  struct Staged;
  struct Pending;
  struct Undo;
  struct Expected;

  void begin_to_peek();
  Staged& entry_of(nb::handle storage);
  void fetch_later() const;
  Expected* seen_again(PyObject* x);
  std::optional<Expected> met_anew(PyObject* x);
  std::uint64_t nbytes_of(const Staged& staged) const;
  nb::object result_of(View& view) const;
  bool is_as_made(const Result& result) const;
  void ask(Staged& staged, bool is_same);
  void refresh(Staged& staged, bool is_same);
  Staged make(nb::handle storage);
  void forget(PyObject* weak);
  void forget_order();
  void place(Staged& staged);
  void import(Home& home, std::uint64_t nbytes);
  bool find(Home& home, std::uint64_t nbytes);
  bool is_in_copies(const std::byte* data, std::uint64_t nbytes) const;
  void make_view(Staged& staged, PyObject* x, const dlpack::Tensor& lent);
  void keep(const std::vector<Pending>& pending);
  std::vector<std::shared_ptr<const Buffer>> set_aside(std::vector<Pending>& pending);
  void copy_from_devices(const std::vector<Pending>& pending, bool non_blocking);

  const Torch& torch_;
  std::optional<Peek> peek_;
  nb::object storage_type_, nbytes_of_, data_ptr_of_, count_weak_, forget_;
  const bool are_weak_within_;  // a tensor's object holds its weak references: Peek sees them
  const std::shared_ptr<Mirror> mirror_;
  const bool is_shared_;
  const Reuse reuse_;
  // By the source, an UntypedStorage. A weak reference's callback removes the
  // entry before the address can come to mean another.
  std::unordered_map<PyObject*, Staged> table_;
  std::unordered_map<PyObject*, PyObject*> sources_;  // by the weak reference
  std::shared_ptr<StagedStorages*> self_;             // for the callback
  std::shared_ptr<SharedSegment> segment_;            // where this call's small shared storages go
  std::uint64_t segment_used_ = 0;
  std::uint64_t shared_nbytes_ = 0;                   // in this call
  std::map<const std::byte*, std::uint64_t> copies_;  // where copies lie, and their sizes
  std::uint64_t moves_ = 1;  // how often torch has moved one of them, and one
  std::uint64_t call_ = 0;
  std::vector<Expected> expected_, met_;  // in the last call, in this one
  std::size_t next_ = 0;
  std::vector<Pending> pending_;
  std::vector<Undo> undo_;
  std::shared_ptr<void> lease_;  // held by the results of the last call, when they lease
};

}  // namespace understudy::python
