// A fake CUDA driver: what tests tell it and what it tells them. It is
// a library of its own (fake_cuda.cpp), opened as the real one would be.
#pragma once

namespace understudy::fakes {

/// One for each process. Tests set it before they call the driver.
struct FakeCuda {
  // Told. Results are the driver's: 0 is success.
  int devices = 2;
  int init_result = 0;
  int retain_result = 0;
  int register_result = 0;
  int register_failures_after = 0;  ///< registrations that succeed before they fail
  bool has_ended = false;           ///< every call says CUDA_ERROR_DEINITIALIZED

  // Kept.
  bool is_started = false;
  int registered = 0;     ///< ranges now
  long long nbytes = 0;   ///< their bytes
  int registrations = 0;  ///< successful calls
  int failures = 0;       ///< registrations that failed because they were told to
  int unregistrations = 0;
  int late_unregistrations = 0;  ///< of memory that was unmapped already
  int retained = 0;              ///< primary contexts, less what was released
  int last_device = -1;          ///< of the context that was current at the last registration
  unsigned last_flags = 0;
};

}  // namespace understudy::fakes
