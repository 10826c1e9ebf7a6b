#include "base/task_thread.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "base/process.h"
#include "base/thread.h"

namespace understudy {

struct TaskThread::State {
  explicit State(std::string name) : name(std::move(name)) {}

  void serve();

  const std::string name;
  HomeProcess home;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void()>> tasks;
  bool stop = false;
  std::thread thread;
};

void TaskThread::State::serve() {
  std::unique_lock lock(mutex);
  for (;;) {
    wake.wait(lock, [&] { return stop || !tasks.empty(); });
    if (tasks.empty()) return;
    auto task = std::move(tasks.front());
    tasks.pop_front();
    lock.unlock();
    task();
    task = nullptr;  // what it holds goes before the lock is taken
    lock.lock();
  }
}

TaskThread::TaskThread(std::string name) : state_(make_home<State>(std::move(name))) {}

TaskThread::~TaskThread() {
  if (!state_->home.is_here()) return;
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_one();
  if (state_->thread.joinable()) state_->thread.join();
}

void TaskThread::start() {
  state_->home.require("a background thread");
  std::lock_guard lock(state_->mutex);
  if (state_->thread.joinable()) return;
  state_->thread = start_thread(state_->name, true, [s = state_.get()] { s->serve(); });
}

void TaskThread::post(std::function<void()> task) {
  start();
  {
    std::lock_guard lock(state_->mutex);
    state_->tasks.push_back(std::move(task));
  }
  state_->wake.notify_one();
}

}  // namespace understudy
