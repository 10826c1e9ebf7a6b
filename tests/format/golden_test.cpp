// One file for each version of the format stays here for ever: what this build
// writes must equal the newest to the last byte, and it must read all of them.
//
// A new version's file is made by UNDERSTUDY_WRITE_GOLDEN=1 test_format
// --gtest_filter='*Golden*Writes*', and then looked at.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "format/helpers.h"

namespace understudy::format {
namespace {

using testing::Bytes;
using testing::counted;
using testing::Kind;

// Small, with one of everything that the format has a form for. Never changed.
Value golden_state() {
  const auto w = counted(DType::f32, {2, 3});
  return Value::dict({
      {"model", Value::dict({{"w", w}, {"tied", w}})
                    .with_kind(Value::Kind::ordered_dict,
                               Value::dict({{"_metadata", Value::dict({{"", 1}})}}))},
      {"transposed", Tensor(w.storage(), DType::f32, {3, 2}, {1, 3})},
      {"row", Tensor(counted(DType::bf16, {4, 4}).storage(), DType::bf16, {2, 2}, {4, 1}, 2)},
      {"complex", counted(DType::c128, {1})},
      {"pairs", counted(DType::f4_e2m1_x2, {3})},
      {"empty", counted(DType::i64, {0, 2})},
      {"step", 7},
      {"lr", 0.001},
      {"flags", Value::tuple({true, Value(), std::complex(0.5, -1.0)})},
      {3, Value::bytes("\xff")},
      {"text", "caf\xC3\xA9 \"x\"\n"},
      {"long", std::string(1100, 't')},
      {"numbers", Value::list(Value::Items(128, Value(-1)))},
      {"object", testing::pickled("m.T", "p")},
      {"", counted(DType::u8, {1})},
  });
}

// What came with 1.1: typed values, also as keys and in each other; long integers; tensors over a
// run of memory. Never changed.
Value golden_state_of_1_1() {
  const auto w = counted(DType::f32, {2, 3});
  const auto of_class = [](const Value& fields, const char* kind, const char* name) {
    return fields.with_kind(Kind::typed, Value::tuple({kind, "train", name}));
  };
  const auto date = testing::typed("datetime.date", {{"text", "2026-01-02"}});
  const auto dates = Value(counted(DType::i64, {2})).with_kind(Kind::numpy_array);
  const auto color = of_class(Value::dict({{"name", "RED"}, {"value", 1}}), "enum", "Color");
  return Value::dict({
      {"w", w},
      {"transposed", Tensor(w.storage(), DType::f32, {3, 2}, {1, 3})},
      {"long", Value::bytes("\x01\xff").with_kind(Kind::long_integer)},
      {date, 3},
      {"dates",
       testing::typed("numpy.ndarray",
                      {{"dtype", "<M8[D]"}, {"shape", Value::tuple({2})}, {"data", dates}})},
      {"sparse", testing::typed("torch.sparse_coo", {{"coalesced", true},
                                                     {"indices", counted(DType::i64, {2, 1})},
                                                     {"values", counted(DType::f32, {1})}})},
      {"config", of_class(Value::dict({{"lr", 0.1}, {"color", color}, {"since", date}}),
                          "dataclass", "Config")},
  });
}

struct Golden : ::testing::TestWithParam<std::string> {
  Value state() const { return GetParam() == "1.0" ? golden_state() : golden_state_of_1_1(); }
  std::filesystem::path path() const {
    return std::filesystem::path(GOLDEN_FOLDER) / ("v" + GetParam() + ".safetensors");
  }
  Bytes read() const;
};

Bytes Golden::read() const {
  std::ifstream in(path(), std::ios::binary);
  EXPECT_TRUE(in) << path();
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// The JSON of a file without its padding, to show what differs.
std::string header_text(const Bytes& bytes) {
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto nbytes = read_header_nbytes(bytes, bytes.size(), "f");
  return text.substr(8, text.find_last_not_of(' ', nbytes - 1) - 7);
}

TEST_P(Golden, IsWhatThisBuildWrites) {
  const auto file = testing::write_whole_file(state(), {{"format", "pt"}, {"run", "a"}},
                                              /*in_file_form=*/GetParam() != "1.0");
  if (std::getenv("UNDERSTUDY_WRITE_GOLDEN") != nullptr) {
    std::ofstream out(path(), std::ios::binary);
    out.write(reinterpret_cast<const char*>(file.bytes.data()),
              static_cast<std::streamsize>(file.bytes.size()));
  }
  const auto golden = read();
  EXPECT_EQ(header_text(file.bytes), header_text(golden));
  EXPECT_TRUE(file.bytes == golden);
}

TEST_P(Golden, IsRead) {
  const auto golden = read();
  const auto found = testing::read_whole_file(golden);
  EXPECT_TRUE(testing::is_same(found, state()));
  EXPECT_NE(header_text(golden).find("\"understudy.format\":\"" + GetParam()), std::string::npos);
}

TEST(GoldenOf10, SharesBytesAsItDid) {
  const auto state =
      testing::read_whole_file(testing::write_whole_file(golden_state(), {{"format", "pt"}}).bytes);
  const auto& model = state.at("model");
  EXPECT_EQ(model.at("w").as_tensor().data(), model.at("tied").as_tensor().data());
  EXPECT_EQ(model.at("w").as_tensor().data(), state.at("transposed").as_tensor().data());
}

TEST_P(Golden, EveryFlippedBitIsFound) {
  const auto golden = read();
  std::size_t found = 0;
  auto bytes = golden;
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    try {
      testing::read_whole_file(bytes);
      ADD_FAILURE() << "bit " << bit << " is not noticed";
    } catch (const Error&) {
      ++found;
    }
    bytes[bit / 8] = golden[bit / 8];
  }
  EXPECT_EQ(found, golden.size() * 8);
}

TEST_P(Golden, EveryLengthButItsOwnIsFound) {
  const auto golden = read();
  for (std::size_t n = 0; n < golden.size(); ++n) {
    EXPECT_THROW(testing::read_whole_file(std::span(golden).first(n)), Error) << n;
  }
  auto longer = golden;
  longer.push_back(std::byte{0});
  EXPECT_THROW(testing::read_whole_file(longer), Error);
}

INSTANTIATE_TEST_SUITE_P(Versions, Golden, ::testing::Values("1.0", "1.1"),
                         [](const auto& info) { return info.param == "1.0" ? "v10" : "v11"; });

}  // namespace
}  // namespace understudy::format
