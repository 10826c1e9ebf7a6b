#include "core/parked.h"

#include <Python.h>
#include <unistd.h>
#include <unwind.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

namespace understudy::python {
namespace {

// A thread may be in code of the user's, and stay there for ever.
constexpr std::chrono::seconds kLongestWait{5};
constexpr std::chrono::milliseconds kBetweenLooks{1};

constexpr std::chrono::seconds kLongestHold{1};

std::atomic<int> threads_inside{0};
std::atomic<std::thread::id> ending{};  // the thread that ends the interpreter
thread_local int depth = 0;             // calls of ours that this thread is in
thread_local bool was_held_back = false;

bool is_to_be_held_back() noexcept {
  const auto by = ending.load();
  return by != std::thread::id{} && by != std::this_thread::get_id() && !was_held_back;
}

[[noreturn]] void park() noexcept {
  for (;;) pause();
}

int own() noexcept {
  return depth > 0 ? 1 : 0;
}

}  // namespace

void hold_back() noexcept {
  if (!is_to_be_held_back()) return;
  was_held_back = true;
  const auto end = std::chrono::steady_clock::now() + kLongestHold;
  while (std::chrono::steady_clock::now() < end) {
    if (Py_IsInitialized() == 0) park();
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

Inside::Inside() noexcept {
  if (depth == 0 && is_to_be_held_back()) {
    auto* const state = PyEval_SaveThread();
    hold_back();
    PyEval_RestoreThread(state);
  }
  if (depth++ == 0) ++threads_inside;
}

Inside::~Inside() {
  if (--depth == 0) --threads_inside;
}

Outside::Outside() noexcept : depth_(std::exchange(depth, 0)) {
  if (depth_ > 0) --threads_inside;
}

Outside::~Outside() {
  depth = depth_;
  if (depth_ > 0) ++threads_inside;
}

// Looks with the GIL, so that nobody comes in between the look and what follows.
void wait_for_others_inside() {
  ending = std::this_thread::get_id();
  const auto end = std::chrono::steady_clock::now() + kLongestWait;
  while (threads_inside > own() && std::chrono::steady_clock::now() < end) {
    auto* const state = PyEval_SaveThread();
    std::this_thread::sleep_for(kBetweenLooks);
    PyEval_RestoreThread(state);
  }
}

void forget_others_inside() {
  threads_inside = own();
  ending = std::thread::id{};
}

}  // namespace understudy::python

extern "C" {

// The linker calls the one of the standard library so, and ours by its own name (--wrap).
_Unwind_Reason_Code __real___gxx_personality_v0(int version, _Unwind_Action actions,
                                                _Unwind_Exception_Class kind,
                                                _Unwind_Exception* exception,
                                                _Unwind_Context* context);

// What each frame of this binding asks what to do when a stack is unwound. Only pthread_exit
// and pthread_cancel unwind by force.
_Unwind_Reason_Code __wrap___gxx_personality_v0(int version, _Unwind_Action actions,
                                                _Unwind_Exception_Class kind,
                                                _Unwind_Exception* exception,
                                                _Unwind_Context* context) {
  if ((actions & _UA_FORCE_UNWIND) != 0) understudy::python::park();
  return __real___gxx_personality_v0(version, actions, kind, exception, context);
}

}  // extern "C"
