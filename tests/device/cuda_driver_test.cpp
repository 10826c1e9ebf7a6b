#include "device/cuda_driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/cuda/use_fake_cuda.h"

namespace understudy::device {
namespace {

using ::testing::HasSubstr;

TEST(CudaLibrary, IsOpenedAsOneTable) {
  const auto library = open_cuda_library(FAKE_CUDA);
  ASSERT_TRUE(library.driver) << library.problem;
  int functions = 0;
  for_each_function([&](auto member, const char* symbol) {
    EXPECT_NE((*library.driver).*member, nullptr) << symbol;
    ++functions;
  });
  EXPECT_EQ(sizeof(CudaDriver), static_cast<std::size_t>(functions) * sizeof(void*));
  int version = 0;
  EXPECT_EQ(library.driver->driver_version(&version), kCudaSuccess);
  EXPECT_EQ(version, 13000);
}

TEST(CudaLibrary, SaysWhyThereIsNone) {
  const auto missing = open_cuda_library("/nowhere/libcuda.so.1");
  EXPECT_FALSE(missing.driver);
  EXPECT_THAT(missing.problem, HasSubstr("no CUDA driver: /nowhere/libcuda.so.1"));
  const auto old = open_cuda_library(OLD_FAKE_CUDA);
  EXPECT_FALSE(old.driver);
  EXPECT_THAT(old.problem, HasSubstr("too old"));
  EXPECT_THAT(old.problem, HasSubstr("cuMemHostRegister_v2"));
}

TEST(CudaLibrary, ReplacementEndsWithItsScope) {
  const auto* const before = &cuda_library();
  {
    const fakes::UseFakeCuda fake;
    EXPECT_NE(&cuda_library(), before);
  }
  EXPECT_EQ(&cuda_library(), before);
}

TEST(CudaLibrary, NamesResults) {
  const fakes::UseFakeCuda fake;
  EXPECT_EQ(cuda_result_name(fake.driver(), kCudaOutOfMemory), "CUDA_ERROR_OUT_OF_MEMORY");
  EXPECT_EQ(cuda_result_name(fake.driver(), 4711), "result 4711");
}

}  // namespace
}  // namespace understudy::device
