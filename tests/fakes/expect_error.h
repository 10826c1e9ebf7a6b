// Expecting an Error of a code, whose sentence names what it should.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "understudy/error.h"

namespace understudy::fakes {

/// Runs `body`, which must throw Error(code) with `part` in its message.
/// Returns the message.
template <class Body>
std::string expect_error(ErrorCode code, const std::string& part, Body body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(to_string(error.code()), to_string(code)) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
        << "\"" << part << "\" is not in: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no Error(" << to_string(code) << ") about \"" << part << "\"";
  return {};
}

}  // namespace understudy::fakes
