#include "format/text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fakes/expect_error.h"
#include "format/safetensors.h"

namespace understudy::format {
namespace {

std::string json_of(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(Text, EveryCharacterAtEveryPlaceComesBack) {
  for (int c = 0; c < 0x80; ++c) {
    for (std::size_t at = 0; at < 20; ++at) {
      std::string text(20, 'x');
      text[at] = static_cast<char>(c);
      const auto json = json_of(text);
      EXPECT_EQ(nlohmann::json::parse(json).get<std::string>(), text);
      EXPECT_EQ(json_string_nbytes(text), json.size());
    }
  }
  EXPECT_EQ(json_of("a\"b\\c\n\x01"), R"("a\"b\\c\n\u0001")");
}

TEST(Text, KnowsUtf8) {
  for (const std::string_view right : {"", "abc", "caf\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x8E\xAD",
                                       "\xEF\xBF\xBF", "\xF4\x8F\xBF\xBF", "abcdefgh\xC3\xA9",
                                       "\xED\x9F\xBF", "\xE0\xA0\x80", "\xF0\x90\x80\x80"}) {
    EXPECT_TRUE(is_utf8(right)) << in_quotes(right);
    EXPECT_EQ(nlohmann::json::parse(json_of(right)).get<std::string>(), right);
  }
  for (const std::string_view wrong :
       {"\x80", "\xC3", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xED\xA0\x80",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "abcdefgh\xE2\x82",
        "\xE2\x82x", "\xF0\x9F\x8E"}) {
    EXPECT_FALSE(is_utf8(wrong)) << in_quotes(wrong);
    fakes::expect_error(ErrorCode::invalid, "not UTF-8", [&] { json_of(wrong); });
  }
}

TEST(Text, HexComesBack) {
  std::string bytes, hex, back;
  for (int c = 0; c < 256; ++c) bytes += static_cast<char>(c);
  append_hex(hex, bytes);
  ASSERT_TRUE(parse_hex(hex, back));
  EXPECT_EQ(back, bytes);
  for (const auto* wrong : {"0", "0G", "AB", "0 "}) EXPECT_FALSE(parse_hex(wrong, back)) << wrong;
}

}  // namespace
}  // namespace understudy::format
