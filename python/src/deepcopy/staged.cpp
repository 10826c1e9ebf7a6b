#include "deepcopy/staged.h"

#include "deepcopy/staged_parts.h"
#include "frameworks/torch_memory.h"

namespace understudy::python {
namespace {

// More views of one storage than this are looked through for old ones.
constexpr std::size_t kManyViews = 16;
// Tensors to think ahead: about as far as memory is away.
constexpr std::size_t kAhead = 6;

// Shares the storage and nothing else; what is done to it is not done to the other.
nb::object alias_of(const nb::object& tensor) {
  static auto* const name = interned("data");
  return get_attribute(tensor.ptr(), name);
}

}  // namespace

StagedStorages::StagedStorages(std::shared_ptr<Mirror> mirror, bool is_shared, Reuse reuse)
    : torch_(*torch_or_import()),
      peek_(torch_.peek),
      storage_type_(torch_.module.attr("UntypedStorage")),
      nbytes_of_(storage_type_.attr("nbytes")),
      data_ptr_of_(storage_type_.attr("data_ptr")),
      count_weak_(nb::module_::import_("weakref").attr("getweakrefcount")),
      are_weak_within_(nb::cast<int>(torch_.tensor.attr("__weakrefoffset__")) > 0),
      mirror_(std::move(mirror)),
      is_shared_(is_shared),
      reuse_(reuse),
      self_(std::make_shared<StagedStorages*>(this)) {
  forget_ = nb::cpp_function([self = self_](nb::handle weak) {
    if (*self != nullptr) (*self)->forget(weak.ptr());
  });
}

StagedStorages::~StagedStorages() {
  *self_ = nullptr;
  clear();
}

void StagedStorages::forget(PyObject* weak) {
  const auto source = sources_.find(weak);
  if (source == sources_.end()) return;
  forget_order();
  // Dropping what it holds may run finalizers, which may come here again.
  auto gone = table_.extract(source->second);
  sources_.erase(source);
  copies_.erase(gone.mapped().home.address);
}

// What it says of entries and views no longer holds.
void StagedStorages::forget_order() {
  expected_.clear();
  met_.clear();
}

void StagedStorages::clear() {
  pending_.clear();
  undo_.clear();
  forget_order();
  segment_.reset();
  copies_.clear();
  std::unordered_map<PyObject*, Staged> gone;
  gone.swap(table_);
  sources_.clear();
}

// Where it could not be looked for when this was made.
void StagedStorages::begin_to_peek() {
  peek_ = torch_.peek;
  for (auto& [source, staged] : table_) staged.id = peek_->storage_in(source);
}

void StagedStorages::begin() {
  if (!peek_ && torch_.peek) begin_to_peek();
  ++call_;
  expected_.swap(met_);
  met_.clear();
  next_ = 0;
  segment_.reset();
  shared_nbytes_ = 0;
  if (reuse_ == Reuse::lease) lease_ = std::make_shared<char>();
}

StagedStorages::Staged StagedStorages::make(nb::handle storage) {
  Staged staged;
  staged.source = storage.ptr();
  staged.weak = steal_or_throw(PyWeakref_NewRef(storage.ptr(), forget_.ptr()));
  if (peek_) staged.id = peek_->storage_in(storage.ptr());
  staged.nbytes = nbytes_of(staged);
  staged.is_host = text_of(nb::str(storage.attr("device").attr("type"))) == "cpu";
  staged.from = reinterpret_cast<const std::byte*>(number(data_ptr_of_, storage.ptr()));
  staged.made = call_;
  place(staged);
  return staged;
}

StagedStorages::Staged& StagedStorages::entry_of(nb::handle storage) {
  auto found = table_.find(storage.ptr());
  if (found == table_.end()) {
    auto staged = make(storage);
    sources_[staged.weak.ptr()] = storage.ptr();
    found = table_.emplace(storage.ptr(), std::move(staged)).first;
  }
  return found->second;
}

// `is_same`: its bytes are known to lie where they lay.
void StagedStorages::ask(Staged& staged, bool is_same) {
  if (staged.call == call_) return;
  if (staged.made != call_) refresh(staged, is_same);
  staged.call = call_;
  if (staged.nbytes == 0) return;
  pending_.push_back({{staged.from, staged.home.address, staged.nbytes},
                      nb::borrow(staged.source),
                      &staged,
                      staged.made == call_,
                      staged.home.memory});
}

std::uint64_t StagedStorages::nbytes_of(const Staged& staged) const {
  return staged.id != nullptr ? peek_->nbytes(staged.id) : number(nbytes_of_, staged.source);
}

void StagedStorages::refresh(Staged& staged, bool is_same) {
  const bool is_other = peek_ && peek_->storage_in(staged.source) != staged.id;
  if (is_other || nbytes_of(staged) != staged.nbytes) {
    // Resized, or exchanged: the old result stays what it is.
    copies_.erase(staged.home.address);
    auto anew = make(staged.source);
    sources_.erase(staged.weak.ptr());
    sources_[anew.weak.ptr()] = staged.source;
    forget_order();
    staged = std::move(anew);
    return;
  }
  if (!is_same) {
    const auto* from = reinterpret_cast<const std::byte*>(number(data_ptr_of_, staged.source));
    if (from != staged.from) {
      staged.views.clear();
      staged.looked = 0;
      forget_order();
    }
    staged.from = from;
  }
  if (find(staged.home, staged.nbytes)) return;
  staged.views.clear();
  forget_order();
  copies_.erase(staged.home.address);
  place(staged);
}

// Each tensor lies in a dozen places, and the last call's copies have driven
// them all out of the caches.
void StagedStorages::fetch_later() const {
  if (next_ + 2 * kAhead >= expected_.size()) return;
  Peek::fetch(expected_[next_ + 2 * kAhead].staged, sizeof(Staged));
  const auto& later = expected_[next_ + kAhead];
  Peek::fetch(later.tensor, later.tensor_handle, later.staged->id);
  Peek::fetch(later.result, Peek::kObjectNbytes);
  Peek::fetch(later.result_handle, Peek::kTensorNbytes);
  Peek::fetch(later.staged->views.data() + later.view, sizeof(View));
  Peek::fetch(later.staged->source, Peek::kObjectNbytes);
}

// A neighbour in the last call is the neighbour in this one, as a rule. The same
// view of the same storage, whose bytes lie where they lay: nothing needs to be
// asked, and it need not be the same object.
StagedStorages::Expected* StagedStorages::seen_again(PyObject* x) {
  if (!peek_ || next_ >= expected_.size()) return nullptr;
  fetch_later();
  auto& e = expected_[next_];
  if (e.looks == 0 || e.looks != peek_->view_of(x)) return nullptr;
  return peek_->data(e.staged->id) == e.staged->from ? &e : nullptr;
}

std::optional<StagedStorages::Expected> StagedStorages::met_anew(PyObject* x) {
  dlpack::Tensor lent;
  if (torch_.api == nullptr || torch_.api->lend_from_object(x, &lent) != 0) {
    PyErr_Clear();
    return {};
  }
  if (lent.data == nullptr || has_lazy_bit(torch_, x, lent.dtype)) return {};
  // Whose bytes these are, torch says: an address may have come to be another's.
  Expected met;
  const auto storage = call_method(torch_.untyped_storage, x);
  met.staged = &entry_of(storage);
  ask(*met.staged, false);
  auto& views = met.staged->views;
  const auto fits = [&](const View& v) { return v.fits(lent, x); };
  met.view =
      static_cast<std::size_t>(std::find_if(views.begin(), views.end(), fits) - views.begin());
  if (met.view >= views.size()) {
    make_view(*met.staged, x, lent);
    met.view = views.size() - 1;
  }
  met.looks = peek_ ? peek_->view_of(x) : 0;
  return met;
}

nb::object StagedStorages::stage(PyObject* x) {
  Expected met;
  if (const auto* e = seen_again(x)) {
    met = *e;
    ask(*met.staged, true);
  }
  // Or it has been placed anew.
  if (met.staged == nullptr || met.view >= met.staged->views.size()) {
    const auto anew = met_anew(x);
    if (!anew) return {};
    met = *anew;
  }
  ++next_;
  auto& view = met.staged->views[met.view];
  auto result = result_of(view);
  view.call = call_;
  if (peek_) {
    met.tensor = x;
    met.tensor_handle = peek_->tensor_of(x);
    met.result = result.ptr();
    met.result_handle = peek_->tensor_of(result.ptr());
  }
  met_.push_back(met);
  return result;
}

// A new tensor object, or one that was given out and has come back: nobody else
// has it any more, and it is as it was made. Making and ending one is the most
// that a small tensor costs. Not those of the first call, which may be the last.
nb::object StagedStorages::result_of(View& view) const {
  if (!peek_ || reuse_ == Reuse::lease || view.call == 0) return alias_of(view.tensor);
  for (const auto& result : view.results) {
    if (is_as_made(result)) return result.tensor;
  }
  auto& result = view.results[call_ % view.results.size()];
  auto made = alias_of(view.tensor);
  // Its attributes from now on lie in a dict of its own, which is part of it.
  steal_or_throw(PyObject_GenericGetDict(made.ptr(), nullptr));
  result = {made, peek_->fingerprint(made.ptr())};
  return made;
}

bool StagedStorages::is_as_made(const Result& result) const {
  auto* tensor = result.tensor.ptr();
  if (tensor == nullptr || Py_REFCNT(tensor) != 1) return false;
  if (peek_->fingerprint(tensor) != result.fingerprint) return false;
  const auto attributes = steal_or_throw(PyObject_GenericGetDict(tensor, nullptr));
  if (PyDict_Size(attributes.ptr()) != 0 || Py_REFCNT(attributes.ptr()) != 2) return false;
  return are_weak_within_ || PyLong_AsLong(call_method(count_weak_, tensor).ptr()) == 0;
}

void StagedStorages::make_view(Staged& staged, PyObject* x, const dlpack::Tensor& lent) {
  if (staged.views.size() >= kManyViews) {
    forget_order();
    std::erase_if(staged.views, [&](const View& v) { return v.call + 1 < call_; });
  }
  View view;
  view.data = data_of(lent);
  view.type = lent.dtype;
  view.geometry = Geometry(lent);
  view.dtype = dtype_object(x);
  const auto item = std::uint64_t{lent.dtype.bits} * lent.dtype.lanes / 8;
  const auto offset = static_cast<std::uint64_t>(view.data - staged.from);
  view.tensor = torch_view_of(torch_, staged.home.storage, view.dtype, offset / item,
                              view.geometry.shape(), view.geometry.strides());
  staged.views.push_back(std::move(view));
}

nb::object StagedStorages::stage_storage(nb::handle storage) {
  auto& staged = entry_of(storage);
  ask(staged, false);
  return staged.home.storage;
}

}  // namespace understudy::python
