// One file for each version of the format stays here for ever: what this build
// writes must equal the newest to the last byte, and it must read all of them.
//
// A new version's file is made by UNDERSTUDY_WRITE_GOLDEN=1 test_format
// --gtest_filter='Golden.*', and then looked at.
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

std::filesystem::path golden_path() {
  return std::filesystem::path(GOLDEN_FOLDER) / "v1.0.safetensors";
}

Bytes read_golden() {
  std::ifstream in(golden_path(), std::ios::binary);
  EXPECT_TRUE(in) << golden_path();
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

TEST(Golden, IsWhatThisBuildWrites) {
  const auto file = testing::write_whole_file(golden_state(), {{"format", "pt"}, {"run", "a"}});
  if (std::getenv("UNDERSTUDY_WRITE_GOLDEN") != nullptr) {
    std::ofstream out(golden_path(), std::ios::binary);
    out.write(reinterpret_cast<const char*>(file.bytes.data()),
              static_cast<std::streamsize>(file.bytes.size()));
  }
  const auto golden = read_golden();
  EXPECT_EQ(header_text(file.bytes), header_text(golden));
  EXPECT_TRUE(file.bytes == golden);
}

TEST(Golden, IsRead) {
  const auto golden = read_golden();
  const auto state = testing::read_whole_file(golden);
  EXPECT_TRUE(testing::is_same(state, golden_state()));
  // Sharing too.
  const auto& model = state.at("model");
  EXPECT_EQ(model.at("w").as_tensor().data(), model.at("tied").as_tensor().data());
  EXPECT_EQ(model.at("w").as_tensor().data(), state.at("transposed").as_tensor().data());
}

TEST(Golden, EveryFlippedBitIsFound) {
  const auto golden = read_golden();
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

TEST(Golden, EveryLengthButItsOwnIsFound) {
  const auto golden = read_golden();
  for (std::size_t n = 0; n < golden.size(); ++n) {
    EXPECT_THROW(testing::read_whole_file(std::span(golden).first(n)), Error) << n;
  }
  auto longer = golden;
  longer.push_back(std::byte{0});
  EXPECT_THROW(testing::read_whole_file(longer), Error);
}

}  // namespace
}  // namespace understudy::format
