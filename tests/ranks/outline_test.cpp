#include "ranks/outline.h"

#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "ranks/placements.h"

namespace understudy::ranks {
namespace {

Outline some_outline() {
  return {{{"model.w", DType::bf16, {4, 8}, {{{0, 0}, {2, 8}}, {{2, 0}, {1, 8}}}},
           {"step", DType::i64, {}, {whole({})}},
           {"empty", DType::f32, {0, 4}, {whole({0, 4})}},
           {"elsewhere", DType::f8_e4m3, {5}, {}}}};
}

TEST(Outline, ComesBackAsItWas) {
  const auto outline = some_outline();
  const auto encoded = encode_outline(outline);
  EXPECT_EQ(decode_outline(encoded, 1), outline);
  EXPECT_EQ(encode_outline(decode_outline(encoded, 1)), encoded);
  EXPECT_EQ(decode_outline(encode_outline({}), 0), Outline{});
}

TEST(Outline, HasAHashThatChangesWithIt) {
  const auto hash = outline_hash(encode_outline(some_outline()));
  EXPECT_EQ(hash.size(), 32u);
  EXPECT_EQ(hash, outline_hash(encode_outline(some_outline())));
  auto other = some_outline();
  other.tensors[0].chunks[1].offsets[0] = 3;
  EXPECT_NE(hash, outline_hash(encode_outline(other)));
}

// Bytes that another rank sent take no more memory than they are long, and end no program.
TEST(Outline, WhateverIsSentIsReadOrRefused) {
  const auto encoded = encode_outline(some_outline());
  Random random(21);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    auto bytes = encoded;
    if (random() % 2 == 0) bytes.resize(random() % bytes.size());
    for (auto changes = random() % 3; changes > 0 && !bytes.empty(); --changes) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    try {
      EXPECT_EQ(encode_outline(decode_outline(bytes, 3)), bytes);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::corrupt);
      EXPECT_NE(std::string(error.what()).find("rank 3"), std::string::npos) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 5'000);
  fakes::expect_error(ErrorCode::corrupt, "rank 2 sent an outline that goes on after its end",
                      [&] { decode_outline(encoded + "x", 2); });
  const Dims many(kMaxDims + 1, 1);
  fakes::expect_error(ErrorCode::corrupt, "has a tensor of 65 dimensions", [&] {
    decode_outline(encode_outline({{{"w", DType::u8, many, {whole(many)}}}}), 2);
  });
  fakes::expect_error(ErrorCode::corrupt, "rank 2 sent an outline of another version",
                      [&] { decode_outline("2" + encoded.substr(1), 2); });
}

}  // namespace
}  // namespace understudy::ranks
