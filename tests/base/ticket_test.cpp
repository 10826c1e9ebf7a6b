#include "base/ticket.h"

#include <gtest/gtest.h>

#include <thread>

#include "understudy/error.h"

namespace understudy {
namespace {

struct TicketTest : ::testing::Test {
  std::shared_ptr<TicketState> state = std::make_shared<TicketState>();
  std::shared_ptr<std::optional<int>> result = std::make_shared<std::optional<int>>();
  Ticket<int> ticket{state, result};
};

TEST_F(TicketTest, GivesItsResultMoreThanOnce) {
  std::thread worker([&] {
    *result = 7;
    state->set_captured();
    state->set_done();
  });
  EXPECT_EQ(ticket.wait(), 7);
  EXPECT_EQ(ticket.wait(), 7);
  EXPECT_NO_THROW(ticket.wait_captured());
  worker.join();
}

TEST_F(TicketTest, TimesOut) {
  try {
    ticket.wait(std::chrono::milliseconds(1));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::timeout);
  }
  EXPECT_FALSE(ticket.wait_captured_for(std::chrono::duration<double>(-1)));
  EXPECT_FALSE(ticket.is_done());
}

TEST_F(TicketTest, FailureIsThrownByEachWaitAndMarkedSeen) {
  state->set_failed(std::make_exception_ptr(Error(ErrorCode::io, "first")));
  state->set_failed(std::make_exception_ptr(Error(ErrorCode::io, "second")));
  EXPECT_TRUE(ticket.is_done());
  EXPECT_FALSE(state->is_seen);
  EXPECT_TRUE(ticket.exception() != nullptr);
  for (int i = 0; i < 2; ++i) {
    try {
      ticket.wait();
      FAIL();
    } catch (const Error& e) {
      EXPECT_STREQ(e.what(), "first");
    }
  }
  EXPECT_TRUE(state->is_seen);
}

}  // namespace
}  // namespace understudy
