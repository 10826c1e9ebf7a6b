// Making errors: one formatted sentence each.
#pragma once

#include <utility>

#include "base/text.h"
#include "understudy/error.h"

namespace understudy {

template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, format_text(format, std::forward<Args>(args)...));
}

}  // namespace understudy
