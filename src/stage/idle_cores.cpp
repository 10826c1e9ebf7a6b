#include "stage/idle_cores.h"

#include <algorithm>
#include <chrono>

#include "os/system.h"

namespace understudy::stage {

IdleCores::Clocks IdleCores::Clocks::now() {
  const auto wall = std::chrono::steady_clock::now().time_since_epoch();
  return {std::chrono::duration<double>(wall).count(), os::processor_seconds()};
}

double IdleCores::since_last(Clocks now) noexcept {
  const double wall = now.wall - last_.wall, processor = now.processor - last_.processor;
  last_ = now;
  if (wall <= 0) return 0;
  return std::clamp(cores_ - processor / wall, 0.0, static_cast<double>(cores_));
}

}  // namespace understudy::stage
