// What the tests of overlapped capture share: states of memory that malloc gave,
// and the comparison with a copy taken at the instant of the call.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "fakes/states.h"
#include "stage/page_fence.h"
#include "understudy/stager.h"

namespace understudy::fakes {

/// Empty, or why pages cannot be protected here.
inline std::string why_not_overlapped() {
  try {
    const stage::PageFence::Share share;
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

#define SKIP_WITHOUT_USERFAULTFD()                                            \
  if (const auto why = understudy::fakes::why_not_overlapped(); !why.empty()) \
  GTEST_SKIP() << "no overlapped capture here: " << why

/// Ends the process when a test hangs.
class Limit {
 public:
  explicit Limit(unsigned seconds) { alarm(seconds); }
  ~Limit() { alarm(0); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;
};

/// Memory of malloc, which begins 16 bytes into a page where it is large.
inline Tensor heap_tensor(std::uint64_t nbytes) {
  std::shared_ptr<void> owner(std::malloc(nbytes), std::free);
  auto* const data = owner.get();
  return Tensor::from_owner(std::move(owner), data, DType::u8, {static_cast<std::int64_t>(nbytes)});
}

/// Tensors whose bytes are overwritten by several threads.
class Trainer {
 public:
  explicit Trainer(const std::vector<std::uint64_t>& sizes) {
    Value::Pairs pairs;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      tensors_.push_back(heap_tensor(sizes[i]));
      pairs.emplace_back("t" + std::to_string(i), tensors_.back());
    }
    state_ = Value::dict(std::move(pairs));
    step(0, 1);
  }

  /// Overwrites everything, in an order of its own for each thread.
  void step(std::uint64_t seed, int threads) {
    std::vector<std::thread> writers;
    for (int t = 0; t < threads; ++t) {
      writers.emplace_back([this, seed, t, threads] {
        std::vector<std::size_t> mine;
        for (auto i = static_cast<std::size_t>(t); i < tensors_.size();
             i += static_cast<std::size_t>(threads)) {
          mine.push_back(i);
        }
        std::shuffle(mine.begin(), mine.end(), std::mt19937_64(seed));
        for (const auto i : mine) overwrite(i, seed);
      });
    }
    for (auto& w : writers) w.join();
  }

  const Value& state() const { return state_; }
  const Tensor& tensor(std::size_t i) const { return tensors_[i]; }
  std::size_t size() const { return tensors_.size(); }

  std::vector<std::string> clone() const {
    std::vector<std::string> all;
    for (const auto& t : tensors_) {
      all.emplace_back(reinterpret_cast<const char*>(t.data()), t.nbytes());
    }
    return all;
  }

 private:
  // 8 bytes at a time, from the front or from the back.
  void overwrite(std::size_t i, std::uint64_t seed) {
    auto* const words = reinterpret_cast<std::uint64_t*>(tensors_[i].data());
    const auto count = tensors_[i].nbytes() / 8;
    const auto value = (seed + 1) * 0x9E3779B97F4A7C15U + i;
    for (std::uint64_t k = 0; k < count; ++k) {
      const auto at = (seed + i) % 2 == 0 ? k : count - 1 - k;
      words[at] = value ^ at;
    }
  }

  std::vector<Tensor> tensors_;
  Value state_;
};

/// How many tensors of the snapshot differ from the clone.
inline int count_torn(const Snapshot& snapshot, const std::vector<std::string>& clone) {
  int torn = 0;
  const auto state = snapshot.state();
  for (std::size_t i = 0; i < clone.size(); ++i) {
    const auto t = state.at("t" + std::to_string(i)).as_tensor();
    torn += t.nbytes() != clone[i].size() ||
            std::memcmp(t.data(), clone[i].data(), clone[i].size()) != 0;
  }
  return torn;
}

}  // namespace understudy::fakes
