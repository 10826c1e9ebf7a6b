#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string_view>
#include <vector>

#include "transfer/copy_bytes.h"
#include "transfer/copy_kernel.h"

namespace understudy::transfer {
namespace {

constexpr std::size_t kMiB = 1 << 20;

std::vector<std::byte> pattern(std::size_t nbytes) {
  std::vector<std::byte> bytes(nbytes);
  for (std::size_t i = 0; i < nbytes; ++i) bytes[i] = static_cast<std::byte>(i * i >> 5 ^ i);
  return bytes;
}

// A kernel that says when it runs.
class Spy {
 public:
  explicit Spy(const CopyKernel& kernel)
      : spy_{kernel.name, stream, finish}, forced_((real_ = &kernel, spy_)) {
    streamed_ = 0;
    finished_ = 0;
  }
  std::uint64_t streamed() const { return streamed_; }
  std::uint64_t finished() const { return finished_; }

 private:
  static void stream(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
    streamed_ += nbytes;
    real_->stream(to, from, nbytes);
  }
  static void finish() noexcept {
    ++finished_;
    real_->finish();
  }

  static inline const CopyKernel* real_;
  static inline std::atomic<std::uint64_t> streamed_, finished_;
  const CopyKernel spy_;
  const ForceCopyKernel forced_;
};

const CopyKernel* kernel_named(std::string_view name) {
  for (const auto& kernel : copy_kernels()) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}

class EachKernel : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    kernel_ = kernel_named(GetParam());
    if (kernel_ == nullptr) GTEST_SKIP() << "this processor has no " << GetParam();
  }
  const CopyKernel* kernel_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(CopyKernel, EachKernel,
                         testing::Values("plain", "sse2", "avx2", "avx512", "neon"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(EachKernel, CopiesAnyLengthBetweenAnyAddresses) {
  const auto from = pattern(70000);
  std::vector<std::byte> to(from.size());
  std::vector<std::size_t> lengths;
  for (std::size_t n = 0; n < 200; ++n) lengths.push_back(n);
  for (const std::size_t n : {255u, 256u, 257u, 4095u, 4096u, 65537u}) lengths.push_back(n);
  for (const auto n : lengths) {
    for (const std::size_t shift : {0u, 1u, 31u, 63u, 64u}) {
      std::fill(to.begin(), to.end(), std::byte{0xee});
      kernel_->stream(to.data() + shift, from.data() + n % 7, n);
      kernel_->finish();
      ASSERT_EQ(std::memcmp(to.data() + shift, from.data() + n % 7, n), 0) << n << " " << shift;
      ASSERT_TRUE(shift == 0 || to[shift - 1] == std::byte{0xee});
      ASSERT_EQ(to[shift + n], std::byte{0xee}) << n << " " << shift;
    }
  }
}

TEST_P(EachKernel, IsTheOneThatRunsWhenItIsForced) {
  const auto from = pattern(20 * kMiB);
  std::vector<std::byte> to(from.size());
  WorkerPool workers("test", 2);
  const Spy spy(*kernel_);
  EXPECT_STREQ(copy_kernel().name, GetParam());
  copy_runs({{from.data(), to.data(), from.size()}}, workers);
  EXPECT_EQ(spy.streamed(), from.size());
  EXPECT_EQ(spy.finished(), 20u);  // one for each piece of 1 MiB
  EXPECT_EQ(to, from);
}

TEST(CopyKernel, TheWidestIsInUse) {
  const auto kernels = copy_kernels();
  EXPECT_EQ(&copy_kernel(), &kernels.back());
  EXPECT_STREQ(kernels.front().name, "plain");
#if defined(__x86_64__)
  EXPECT_EQ(kernel_named("avx512") != nullptr, __builtin_cpu_supports("avx512f") != 0);
  EXPECT_EQ(kernel_named("avx2") != nullptr, __builtin_cpu_supports("avx2") != 0);
#endif
}

TEST(CopyBytes, StreamsWhatIsLarge) {
  const auto from = pattern(256 << 10);
  std::vector<std::byte> to(from.size());
  const Spy spy(copy_kernels().back());
  copy_bytes(to.data(), from.data(), from.size() - 1);
  EXPECT_EQ(spy.streamed(), 0u);
  copy_bytes(to.data(), from.data(), from.size());
  EXPECT_EQ(spy.streamed(), from.size());
  EXPECT_EQ(to, from);
}

TEST(CopyRuns, SmallRunsOfAManyAreStreamedTogether) {
  constexpr std::size_t kRun = 4096, kCount = 3000;
  const auto from = pattern(kRun * kCount);
  std::vector<std::byte> to(from.size());
  std::vector<ByteCopy> copies;
  for (std::size_t i = 0; i < kCount; ++i) {
    copies.push_back({from.data() + i * kRun, to.data() + i * kRun, kRun});
  }
  WorkerPool workers("test", 2);
  const Spy spy(copy_kernels().back());
  copy_runs({copies.begin(), copies.begin() + 100}, workers);
  EXPECT_EQ(spy.streamed(), 0u);  // the caches hold it
  copy_runs(copies, workers);
  EXPECT_EQ(spy.streamed(), from.size());
  EXPECT_EQ(to, from);
  // Batches of 1 MiB, with one fence each.
  EXPECT_EQ(spy.finished(), (kRun * kCount + kMiB - 1) / kMiB);
}

}  // namespace
}  // namespace understudy::transfer
