#include "base/text.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "understudy/text.h"

namespace understudy {
namespace {

TEST(Printable, LetsNothingThroughThatMovesTheCursorOrHides) {
  EXPECT_EQ(printable("a\x1b]0;x\x07"), R"(a\x1b]0;x\x07)");
  EXPECT_EQ(printable("\n\r\t\x7f"), R"(\n\r\t\x7f)");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            R"(\x9b31m)");                            // CSI as one character
  EXPECT_EQ(printable("\xe2\x80\xae"), R"(\u202e)");  // right to left
  EXPECT_EQ(printable("\xe2\x80\xa8\xe2\x81\xa6\xef\xbb\xbf"), R"(\u2028\u2066\ufeff)");
  EXPECT_EQ(printable("\xff\xc3"), R"(\xff\xc3)");
  EXPECT_EQ(printable("\xed\xa0\x80"), R"(\xed\xa0\x80)");  // a surrogate is no character
}

TEST(Printable, LeavesTheRest) {
  for (const std::string text : {"", "model.0.weight", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\xad",
                                 "a\\x1b", "\"quoted\""}) {
    EXPECT_EQ(printable(text), text);
    EXPECT_EQ(printable(printable(text)), text);
  }
}

TEST(Printable, NamesThatDifferLookDifferent) {
  EXPECT_EQ(escape("a\\x1b"), R"(a\\x1b)");
  EXPECT_EQ(escape("a\x1b"), R"(a\x1b)");
}

TEST(Printable, EveryMessageIs) {
  try {
    fail(ErrorCode::corrupt, "the entry {} is damaged", "\x1b[31m\xff");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), R"(the entry \x1b[31m\xff is damaged)");
  }
}

TEST(Text, MessagesShowNamesShortAndPrintable) {
  EXPECT_EQ(in_quotes("a\n\"b\" \\ \xff"), R"("a\n\"b\" \\ \xff")");
  EXPECT_EQ(in_quotes("\xc2\x9b\xe2\x80\xae"), R"("\x9b\u202e")");
  const auto text = in_quotes(std::string(10'000, 'x'));
  EXPECT_LT(text.size(), 100u);
  EXPECT_TRUE(text.ends_with("...\""));
}

TEST(Text, IsCutBetweenCharacters) {
  EXPECT_EQ(beginning_of("abc", 3), "abc");
  EXPECT_EQ(beginning_of("abc", 2), "ab");
  EXPECT_EQ(beginning_of("a\xe2\x82\xac", 3), "a");
  EXPECT_EQ(beginning_of("a\xe2\x82\xac", 4), "a\xe2\x82\xac");
}

}  // namespace
}  // namespace understudy
