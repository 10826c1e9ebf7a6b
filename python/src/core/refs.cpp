#include "core/refs.h"

#include <atomic>
#include <thread>
#include <utility>

#include "core/gil.h"
#include "understudy/process.h"

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
// Whether the interpreter has been asked to empty the stack.
constinit std::atomic<bool> is_asked{false};
// Threads that are asking just now, and whether none may any more: the interpreter is about to
// end, and with it what would be asked.
constinit std::atomic<int> asking{0};
constinit std::atomic<bool> is_over{false};
const HomeProcess home;

void drain() noexcept;

// Has the main thread empty the stack as soon as it runs code of Python's, without a wait for it.
void ask_to_drain() noexcept {
  if (is_asked.exchange(true)) return;
  ++asking;
  const auto call = [](void*) {
    drain();
    return 0;
  };
  // Refused while many calls are pending: then the next Entry does it.
  if (is_over || Py_AddPendingCall(call, nullptr) != 0) is_asked = false;
  --asking;
}

void queue_drop(std::vector<PyObject*>&& objects) noexcept {
  if (objects.empty()) return;
  auto* node = new (std::nothrow) Dropped{std::move(objects), nullptr};
  if (node == nullptr) return;
  node->next = dropped.load(std::memory_order_relaxed);
  while (!dropped.compare_exchange_weak(node->next, node, std::memory_order_release,
                                        std::memory_order_relaxed)) {
  }
  ask_to_drain();
}

void drain() noexcept {
  is_asked = false;  // what is pushed from here on asks anew
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
        const WithGil gil;
        drain();
        // By the module: the function of C does nothing where collection is switched off.
        if (!std::exchange(has_collected_, true)) nb::module_::import_("gc").attr("collect")();
        throw_if(PyErr_CheckSignals() != 0);
      }) {
  drain();
}

// In a forked child nobody is asking, whatever the number says.
void stop_asking() {
  is_over = true;
  while (home.is_here() && asking != 0) std::this_thread::yield();
}

Entry::~Entry() {
  nb::error_scope keep;  // finalizers must not see or replace the caller's error
  drain();
}

}  // namespace understudy::python
