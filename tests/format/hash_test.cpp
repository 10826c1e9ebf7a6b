#include "format/hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "format/hash_kernel.h"

namespace understudy::format {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::vector<const HashKernel*> kernels_of_this_processor() {
  std::vector<const HashKernel*> kernels{&kPlainKernel};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) kernels.push_back(&kAvx2Kernel);
  if (__builtin_cpu_supports("avx512f")) kernels.push_back(&kAvx512Kernel);
#endif
  return kernels;
}

// From the reference implementation (xxhsum 0.8): files depend on these values.
TEST(Hash, GivesXxh3) {
  EXPECT_EQ(hex64(hash64({})), "2d06800538d394c2");
  EXPECT_EQ(hash128_hex({}), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hex64(hash64(bytes_of("a"))), "e6c632b61e964e1f");
  EXPECT_EQ(hash128_hex(bytes_of("abc")), "06b05ab6733a618578af5f94892f3950");
}

TEST(Hash, PiecesGiveWhatTheWholeGives) {
  std::vector<std::byte> bytes(300000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * i >> 7);
  Hash64 hash;
  for (const std::size_t piece : {1u, 63u, 256u, 1000u, 65536u, 300000u}) {
    const auto whole = std::span(bytes).first(piece == 1 ? 700 : bytes.size());
    hash.reset();
    for (std::size_t at = 0; at < whole.size(); at += piece) {
      hash.add(whole.subspan(at, std::min(piece, whole.size() - at)));
    }
    EXPECT_EQ(hash.value(), hash64(whole)) << piece;
    for (const auto* kernel : kernels_of_this_processor()) {
      alignas(kHashStateAlignment) std::byte state[kHashStateNbytes];
      kernel->begin64(state);
      kernel->add64(state, whole.data(), piece);
      kernel->add64(state, whole.data() + piece, whole.size() - piece);
      EXPECT_EQ(kernel->end64(state), hash64(whole)) << kernel->name;
    }
  }
}

TEST(Hash, KernelsAgreeAtEveryLength) {
  std::vector<unsigned char> bytes(1 << 20);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * i >> 7);
  std::vector<std::size_t> lengths;
  for (std::size_t n = 0; n < 600; ++n) lengths.push_back(n);  // all short forms
  for (const std::size_t n : {1024, 1025, 4095, 65537, (1 << 20) - 3}) lengths.push_back(n);
  for (const auto* kernel : kernels_of_this_processor()) {
    for (const auto n : lengths) {
      const auto* at = bytes.data() + n % 3;  // unaligned too
      const auto length = std::min(n, bytes.size() - n % 3);
      const auto expected = kPlainKernel.hash128(at, length);
      const auto found = kernel->hash128(at, length);
      EXPECT_EQ(kernel->hash64(at, length), kPlainKernel.hash64(at, length)) << kernel->name << n;
      EXPECT_TRUE(found.high == expected.high && found.low == expected.low) << kernel->name << n;
    }
  }
}

TEST(Hash, TheWidestKernelRuns) {
  const auto kernels = kernels_of_this_processor();
  EXPECT_EQ(&chosen_hash_kernel(), kernels.back());
  EXPECT_EQ(hash_kernel(), kernels.back()->name);
}

TEST(Hash, ReadsOnlyItsOwnHex) {
  std::uint64_t value = 1;
  EXPECT_TRUE(parse_hex64("0123456789abcdef", value));
  EXPECT_EQ(value, 0x0123456789abcdefu);
  EXPECT_EQ(hex64(value), "0123456789abcdef");
  for (const auto* wrong : {"", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF",
                            "0123456789abcdeg", "0x23456789abcdef", " 123456789abcdef"}) {
    EXPECT_FALSE(parse_hex64(wrong, value)) << wrong;
  }
}

}  // namespace
}  // namespace understudy::format
