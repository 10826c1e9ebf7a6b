#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/states.h"
#include "fakes/watched_reads.h"
#include "store/reader.h"

namespace understudy {
namespace {

using fakes::counting;
using fakes::expect_error;
using fakes::fingerprint;
using fakes::training_state;
using ::testing::HasSubstr;

class LoadFileTest : public ::testing::TestWithParam<bool> {
 protected:
  LoadFileOptions options(std::vector<std::string> names = {}) const {
    return {.names = std::move(names), .mmap = GetParam()};
  }
  fakes::TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_.path() / "state.safetensors";
};

TEST_P(LoadFileTest, GivesBackWhatWasSaved) {
  save_file(training_state(5), file_);
  const auto got = load_file(file_, options());
  EXPECT_EQ(fingerprint(got), fingerprint(training_state(5)));
  const auto& model = got.at("model");
  model.at("embed.weight").as_tensor().data()[0] = std::byte{42};
  EXPECT_EQ(std::to_integer<int>(model.at("head.weight").as_tensor().data()[0]), 42);
  // The file is not the user's memory.
  EXPECT_EQ(fingerprint(load_file(file_, options())), fingerprint(training_state(5)));
}

TEST_P(LoadFileTest, LargerThanABlock) {
  const auto state = Value::dict({{"a", counting(DType::f32, {3000, 1000}, 1)},
                                  {"b", counting(DType::u8, {5000001}, 2)},
                                  {"c", counting(DType::u8, {3}, 3)}});
  save_file(state, file_);
  EXPECT_EQ(fingerprint(load_file(file_, options())), fingerprint(state));
  EXPECT_EQ(fingerprint(load_file(file_, options({"c"}))),
            fingerprint(Value::dict({{"c", state.at("c")}})));
}

TEST_P(LoadFileTest, NamesTakeExactlyOrBelow) {
  save_file(training_state(5), file_);
  EXPECT_EQ(load_file(file_, options({"model"})).pairs().size(), 1u);
  EXPECT_EQ(load_file(file_, options({"model"})).at("model").pairs().size(), 4u);
  const auto some = load_file(file_, options({"model.bias", "optimizer.lr", "step"}));
  EXPECT_EQ(some.at("model").pairs().size(), 1u);
  EXPECT_EQ(some.at("optimizer").at("lr").as_floating(), 0.5);
  EXPECT_EQ(some.at("step").as_integer(), 5);
  const auto e =
      expect_error(ErrorCode::not_found, "", [&] { load_file(file_, options({"mod"})); });
  EXPECT_THAT(e, HasSubstr("'mod'"));
}

TEST_P(LoadFileTest, DamageIsNamedAndUnverifiedReadingIsPossible) {
  save_file(training_state(5), file_);
  {
    std::fstream f(file_, std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(-10, std::ios::end);
    f.put('\x55');
  }
  const auto e = expect_error(ErrorCode::corrupt, "", [&] { load_file(file_, options()); });
  EXPECT_THAT(e, HasSubstr("state.safetensors"));
  auto careless = options();
  careless.verify = false;
  EXPECT_NO_THROW(load_file(file_, careless));
}

TEST_P(LoadFileTest, PicklesNeedPermission) {
  Opaque o;
  o.type_name = "my.Thing";
  o.pickle = std::make_shared<const std::string>("pickled");
  save_file(Value::dict({{"a", Value::list({Value(o)})}}), file_);
  const auto e = expect_error(ErrorCode::unsupported, "", [&] { load_file(file_, options()); });
  EXPECT_THAT(e, HasSubstr("my.Thing at 'a.0'"));
  auto allowed = options();
  allowed.allow_pickle = true;
  EXPECT_EQ(*load_file(file_, allowed).at("a").items()[0].as_opaque().pickle, "pickled");
  o.pickle = nullptr;
  const auto refused = expect_error(ErrorCode::unsupported, "", [&] {
    save_file(Value::dict({{"a", Value(o)}}), file_);
  });
  EXPECT_THAT(refused, HasSubstr("'a'"));
}

TEST_P(LoadFileTest, MissingFileIsNotFound) {
  expect_error(ErrorCode::not_found, "", [&] { load_file(file_, options()); });
}

// The header, and the blocks that the name touches; without verifying its bytes alone, and
// nothing but the header where they are mapped.
TEST_P(LoadFileTest, NamesReadOnlyTheirBytes) {
  save_file(Value::dict({{"a", counting(DType::f32, {3000, 1000}, 1)},
                         {"b", counting(DType::u8, {6000001}, 2)},
                         {"c", counting(DType::u8, {4000000}, 2)},
                         {"d", counting(DType::u8, {3}, 3)}}),
            file_);
  const auto read = [&](bool verify, std::string name) {
    auto how = options({std::move(name)});
    how.verify = verify;
    const fakes::WatchedReads watched;
    load_file(file_, how);
    return watched.nbytes();
  };
  const store::ShardReader file(file_);
  const auto header = file.header().header_nbytes + 8;  // the prefix is read once more
  const auto end = file.header().data_nbytes;
  constexpr auto kBlock = format::kBlockNbytes;
  ASSERT_EQ(end / kBlock, 5u);
  EXPECT_EQ(read(true, "d"), header + end - 5 * kBlock);
  EXPECT_EQ(read(true, "b"), header + 3 * kBlock);
  EXPECT_EQ(read(true, "a"), header + 3 * kBlock);
  EXPECT_EQ(read(false, "d"), header + (GetParam() ? 0 : 3));
  EXPECT_EQ(read(false, "b"), header + (GetParam() ? 0 : 6000001));
}

TEST_P(LoadFileTest, AFileThatIsCutMeanwhileIsAnError) {
  save_file(Value::dict({{"a", counting(DType::f32, {3000, 1000}, 1)}}), file_);
  for (const int nth : {2, 3, 9}) {  // of the header; of the data, the first and a later one
    const auto whole = folder_.path() / "whole";
    std::filesystem::copy_file(file_, whole);
    const fakes::WatchedReads watched(nth, [&] { std::filesystem::resize_file(whole, 8192); });
    expect_error(ErrorCode::corrupt, whole.native(), [&] { load_file(whole, options()); });
    EXPECT_TRUE(watched.was_reached());
    std::filesystem::remove(whole);
  }
  const fakes::WatchedReads watched(2, [&] { std::filesystem::resize_file(file_, 8192); });
  auto careless = options();
  careless.verify = false;
  expect_error(ErrorCode::corrupt, file_.native(), [&] { load_file(file_, careless); });
  EXPECT_TRUE(watched.was_reached());
}

TEST_P(LoadFileTest, MoreThanTheMachineHasIsRefused) {
  // A file with a hole: its size is nothing to the disk. Nearly all the memory
  // that is built in: addresses for it can be had, memory cannot.
  const auto nbytes = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                          static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) -
                      (std::uint64_t{16} << 20);
  auto header = R"({"x":{"dtype":"U8","shape":[)" + std::to_string(nbytes) +
                R"(],"data_offsets":[0,)" + std::to_string(nbytes) + "]}}";
  std::string prefix(8, '\0');
  prefix[0] = static_cast<char>(header.size());
  fakes::write_text(file_, prefix + header);
  std::error_code refused;  // by a file system with smaller files
  std::filesystem::resize_file(file_, 8 + header.size() + nbytes, refused);
  if (refused) GTEST_SKIP() << refused.message();
  // Where it is not refused it must not take the machine down: the first read
  // behind the header fails.
  const fakes::FaultyCalls faults({fakes::FaultMode::fail, 3, EIO, "pread"});
  if (GetParam()) {
    EXPECT_EQ(load_file(file_, options()).at("x").as_tensor().nbytes(), nbytes);
  } else {
    expect_error(ErrorCode::no_space, "does not fit", [&] { load_file(file_, options()); });
  }
}

INSTANTIATE_TEST_SUITE_P(ReadAndMapped, LoadFileTest, ::testing::Bool());

}  // namespace
}  // namespace understudy
