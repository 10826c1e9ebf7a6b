#include "os/failure.h"

#include <system_error>

#include "base/text.h"
#include "understudy/system_error.h"

namespace understudy::os {

namespace {

ErrorCode code_of(int error) noexcept {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EFBIG: return ErrorCode::no_space;  // EFBIG: a limit on the size of files
    case ENOENT: return ErrorCode::not_found;
    default: return ErrorCode::io;
  }
}

}  // namespace

void fail_call(std::string_view verb, std::string_view name, int error) {
  throw SystemError(
      code_of(error),
      format_text("cannot {} {}: {}", verb, name, std::generic_category().message(error)), error);
}

}  // namespace understudy::os
