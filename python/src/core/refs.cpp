#include "core/refs.h"

#include <atomic>
#include <utility>

namespace understudy::python {
namespace {

// Objects to think ahead: about as far as memory is away.
constexpr std::size_t kAhead = 8;

struct Dropped {
  std::vector<PyObject*> objects;
  Dropped* next = nullptr;
};

// A stack without a lock: a lock could be held by another thread at the moment
// of a fork, and then for ever in the child.
constinit std::atomic<Dropped*> dropped{nullptr};

void queue_drop(std::vector<PyObject*>&& objects) noexcept {
  if (objects.empty()) return;
  auto* node = new (std::nothrow) Dropped{std::move(objects), nullptr};
  if (node == nullptr) return;
  node->next = dropped.load(std::memory_order_relaxed);
  while (!dropped.compare_exchange_weak(node->next, node, std::memory_order_release,
                                        std::memory_order_relaxed)) {
  }
}

void drain() noexcept {
  auto* node = dropped.exchange(nullptr, std::memory_order_acquire);
  while (node != nullptr) {
    const auto& objects = node->objects;
    for (std::size_t i = 0; i < objects.size(); ++i) {
      // Copies have driven them out of the caches.
      if (i + kAhead < objects.size()) __builtin_prefetch(objects[i + kAhead]);
      Py_DECREF(objects[i]);  // finalizers may call us again; they find an empty queue
    }
    auto* next = node->next;
    delete node;
    node = next;
  }
}

}  // namespace

Refs::~Refs() {
  queue_drop(std::move(objects_));
}

PyObject* Refs::add(nb::object o) {
  objects_.push_back(o.ptr());
  return o.release().ptr();
}

std::shared_ptr<void> hold(nb::object o) {
  auto refs = std::make_shared<Refs>();
  auto* object = refs->add(std::move(o));
  return {std::move(refs), object};
}

Entry::Entry()
    : awake_([this] {
        const nb::gil_scoped_acquire gil;
        drain();
        // By the module: the function of C does nothing where collection is switched off.
        if (!std::exchange(has_collected_, true)) nb::module_::import_("gc").attr("collect")();
        throw_if(PyErr_CheckSignals() != 0);
      }) {
  drain();
}

Entry::~Entry() {
  nb::error_scope keep;  // finalizers must not see or replace the caller's error
  drain();
}

}  // namespace understudy::python
