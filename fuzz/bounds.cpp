#include "bounds.h"

#include <malloc.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

// A node of a tree is 48 bytes and can be two of text; growing takes it three times,
// and containers have more to them. The most that was seen is 64 for a byte.
constexpr std::size_t kMostForAByte = 256;
// Tables and buffers that do not depend on the input.
constexpr std::size_t kMostAtAll = std::size_t{4} << 20;

// Processor time, which a busy machine does not change. The longest inputs take a
// second of it; by the square of their length they would take minutes.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kMostSeconds = 200;
#else
constexpr int kMostSeconds = 20;
#endif

std::size_t live = 0, highest = 0, at_begin = 0, input_nbytes = 0;
double most = 0;

void* count(void* p) {
  if (p == nullptr) throw std::bad_alloc();
  live += malloc_usable_size(p);
  highest = std::max(highest, live);
  return p;
}

void uncount(void* p) noexcept {
  if (p != nullptr) live -= malloc_usable_size(p);
  std::free(p);
}

void set_alarm(int seconds) noexcept {
  const itimerval time{{0, 0}, {seconds, 0}};
  setitimer(ITIMER_VIRTUAL, &time, nullptr);
}

void on_alarm(int) {
  constexpr char kText[] = "an input took too much processor time\n";
  [[maybe_unused]] const auto n = write(STDERR_FILENO, kText, sizeof kText - 1);
  _exit(1);
}

}  // namespace

// Every allocation of the program is counted, of one thread.
void* operator new(std::size_t nbytes) {
  return count(std::malloc(std::max<std::size_t>(nbytes, 1)));
}
// A sanitizer has one of its own, which the deletes below must not be given.
void* operator new(std::size_t nbytes, const std::nothrow_t&) noexcept {
  try {
    return operator new(nbytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* p) noexcept {
  uncount(p);
}
void operator delete(void* p, std::size_t) noexcept {
  uncount(p);
}

namespace understudy::fuzz {

void begin_input(std::size_t nbytes) noexcept {
  signal(SIGVTALRM, on_alarm);
  set_alarm(kMostSeconds);
  input_nbytes = nbytes;
  highest = at_begin = live;
}

void end_input() noexcept {
  set_alarm(0);
  const auto taken = highest - at_begin;
  if (input_nbytes >= kMostAtAll / 8) {
    most = std::max(most, static_cast<double>(taken) / static_cast<double>(input_nbytes));
  }
  if (taken <= kMostAtAll + kMostForAByte * input_nbytes) return;
  std::fprintf(stderr, "an input of %zu bytes took %zu bytes of memory\n", input_nbytes, taken);
  std::exit(1);
}

double most_for_a_byte() noexcept {
  return most;
}

}  // namespace understudy::fuzz
