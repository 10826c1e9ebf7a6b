// Children forked while a save is under way, by a thread that is in the middle of it,
// and ended in every way: they take nothing of the parent's with them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <latch>
#include <thread>

#include "fakes/child.h"
#include "fakes/faulty_calls.h"
#include "fakes/states.h"
#include "fakes/temporary_folder.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

using fakes::counting;

enum class End {
  leaves,   // _exit, with every handle as it is
  drops,    // lets every handle go, as garbage collection does
  exits,    // the same, then exit, as a program that ends
  executes  // another program
};

struct When {
  WriterChoice writer;
  const char* call;
  int nth;
};

// A child that hangs ends by a signal, long before the limit of any test.
constexpr unsigned kChildLimit_s = 30;

struct Handles {
  std::optional<Checkpointer> checkpointer;
  std::optional<Stager> stager;
  std::optional<Snapshot> snapshot;
  std::optional<Value> mapped;
  std::optional<Mirror> mirror;
  std::shared_ptr<const Buffer> buffer;
  std::optional<Ticket<std::filesystem::path>> ticket;
};

template <class Call>
bool is_refused(const Call& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.code() == ErrorCode::closed &&
           std::string(e.what()).find("forked") != std::string::npos;
  }
  return false;
}

// How many calls of the handles did something else than to say where they are.
int count_answers(Handles& h) {
  const auto state = Value::dict({});
  const Timeout at_once = std::chrono::duration<double>(0);
  int answers = 0;
  const auto expect = [&](const auto& call) { answers += !is_refused(call); };
  expect([&] { h.checkpointer->save(9, state); });
  expect([&] { h.checkpointer->prewarm(state); });
  expect([&] { h.checkpointer->restore(); });
  expect([&] {
    auto s = state;
    h.checkpointer->resume(s);
  });
  expect([&] { h.checkpointer->resumed(); });
  expect([&] { h.checkpointer->steps(); });
  expect([&] { h.checkpointer->latest(); });
  expect([&] { h.checkpointer->wait(at_once); });
  expect([&] { h.stager->stage(state); });
  expect([&] { h.stager->prewarm(state); });
  expect([&] { h.snapshot->state(); });
  expect([&] { h.snapshot->nbytes(); });
  expect([&] { h.snapshot->save_file("nowhere"); });
  expect([&] { h.mirror->take(1); });
  expect([&] { h.mirror->copy({}); });
  expect([&] { h.mirror->nbytes(); });
  expect([&] { h.ticket->wait(at_once); });
  expect([&] { h.ticket->wait_captured(at_once); });
  expect([&] { h.ticket->is_done(); });
  expect([&] { h.ticket->is_captured(); });
  expect([&] { h.ticket->progress(); });
  expect([&] { h.ticket->exception(); });
  expect([&] { h.ticket->capture(); });
  expect([&] { h.ticket->metrics(); });
  return answers;
}

void drop(Handles& h) {
  h.checkpointer->close();
  h.stager->close();
  h.snapshot->close();
  h.mirror->clear();
  h.ticket.reset();
  h.buffer.reset();
  h.mirror.reset();
  h.mapped.reset();
  h.snapshot.reset();
  h.stager.reset();
  h.checkpointer.reset();
}

int live_as_child(Handles& h, End end) {
  alarm(kChildLimit_s);
  if (const int answers = count_answers(h); answers != 0) return answers;
  switch (end) {
    case End::leaves: return 0;
    case End::drops: drop(h); return 0;
    case End::exits: drop(h); std::exit(0);
    case End::executes: ::execl("/bin/true", "true", nullptr); return 124;
  }
  return 124;
}

// A dozen blocks: more than a writer has under way.
const Value& large_state() {
  static const auto made = Value::dict({{"w", counting(DType::u8, {48 << 20}, 2)}});
  return made;
}

bool is_large_state(const Value& state) {
  const auto &w = state.at("w").as_tensor(), &expected = large_state().at("w").as_tensor();
  return w.nbytes() == expected.nbytes() && std::memcmp(w.data(), expected.data(), w.nbytes()) == 0;
}

class ForkTest : public testing::TestWithParam<std::tuple<When, End>> {};

TEST_P(ForkTest, AChildLeavesTheParentsSaveAlone) {
  const auto& [when, end] = GetParam();
  fakes::TemporaryFolder folder;
  Handles h;
  h.checkpointer.emplace(CheckpointerOptions{.directory = folder / "run", .writer = when.writer});
  try {
    h.checkpointer->save(0, Value::dict({{"w", counting(DType::u8, {9000}, 1)}})).wait();
  } catch (const Error& e) {
    if (e.code() == ErrorCode::unsupported) GTEST_SKIP() << e.what();
    throw;
  }
  const auto& state = large_state();
  h.stager.emplace();
  h.snapshot = h.stager->stage(state).wait();
  h.mapped = h.snapshot->state();
  h.mirror.emplace();
  h.buffer = h.mirror->take(5 << 20);

  std::latch is_ready{1};
  std::atomic<int> status{-2};
  const auto main_thread = std::this_thread::get_id();
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::event, .nth = when.nth, .call = when.call, .event = [&] {
         if (std::this_thread::get_id() == main_thread) return;
         is_ready.wait();
         status = fakes::in_child([&] { return live_as_child(h, end); });
       }});
  h.ticket = h.checkpointer->save(1, state);
  // Another thread waits while the child lets the ticket go.
  std::thread waiting([ticket = *h.ticket] { ticket.wait_done_for({}); });
  is_ready.count_down();
  waiting.join();
  EXPECT_EQ(h.ticket->wait().filename(), "step-1");
  EXPECT_EQ(status, 0) << "the child answered, hung, or the call never came (-2)";
  EXPECT_TRUE(is_large_state(h.checkpointer->restore().state));
  EXPECT_TRUE(is_large_state(h.snapshot->state()));
  h.checkpointer->save(2, state).wait();
  h.checkpointer->close();
  EXPECT_THAT(h.checkpointer->steps(), testing::ElementsAre(0, 1, 2));
}

constexpr auto kRing = WriterChoice::io_uring;
constexpr auto kThreads = WriterChoice::threads;

INSTANTIATE_TEST_SUITE_P(
    AtEachStep, ForkTest,
    testing::Combine(testing::Values(When{kRing, "mkdirat", 1}, When{kRing, "uring_submit", 1},
                                     When{kRing, "uring_submit", 5}, When{kRing, "uring_wait", 1},
                                     When{kRing, "uring_wait", 4}, When{kRing, "fsync", 1},
                                     When{kThreads, "mkdirat", 1}, When{kThreads, "pwrite", 1},
                                     When{kThreads, "pwrite", 9}, When{kThreads, "fsync", 1}),
                     testing::Values(End::leaves, End::drops, End::exits, End::executes)));

}  // namespace
}  // namespace understudy
