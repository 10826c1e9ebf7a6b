// What a Checkpointer makes of its options.
#pragma once

#include "understudy/checkpointer.h"

namespace understudy {

/// The options, once they are known to be possible. Throws Error.
CheckpointerOptions checked(CheckpointerOptions options);

StagerOptions stager_options(const CheckpointerOptions& options);

}  // namespace understudy
