// Thousands of damaged and hostile inputs, the same on every run: each is
// refused with an Error, or taken; nothing else may happen.
#include <gtest/gtest.h>

#include "fakes/mutations.h"
#include "format/helpers.h"

namespace understudy::format {
namespace {

using fakes::Dice;
using fakes::mutated;

TEST(Mutations, OfTrees) {
  std::vector<testing::WholeFile> files;
  for (const auto& state : {testing::every_type(), testing::every_kind(), testing::every_dtype()}) {
    files.push_back(testing::write_whole_file(state));
  }
  Dice dice(1);
  int taken = 0;
  for (int i = 0; i < 6000; ++i) {
    const auto& file = files[i % files.size()];
    testing::Reading reading(file.layout.entries,
                             std::span(file.bytes).subspan(file.layout.header_nbytes));
    if (i % 2 == 0) {
      reading.source.select = [](const std::string& path) {
        return static_cast<int>(path.size() % 3);
      };
    }
    try {
      const auto state =
          decode_tree(mutated(file.tree, dice), file.layout.entries, reading.source, "f");
      testing::is_same(state, state);  // reads all that the tensors say they have
      ++taken;
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == ErrorCode::corrupt || error.code() == ErrorCode::unsupported)
          << error.what();
    }
  }
  EXPECT_GT(taken, 0);
}

TEST(Mutations, OfHeaders) {
  const auto file = testing::write_whole_file(testing::every_type());
  const std::string header(reinterpret_cast<const char*>(file.bytes.data()),
                           file.layout.header_nbytes);
  const auto json = header.substr(8, header.find_last_not_of(' ') - 7);
  const auto data_nbytes = file.layout.data_nbytes;
  Dice dice(2);
  int taken = 0;
  for (int i = 0; i < 6000; ++i) {
    const auto bytes = testing::file_of(mutated(json, dice), data_nbytes);
    const auto head = std::span(bytes).first(bytes.size() - data_nbytes);
    try {
      const auto parsed = read_header(head, bytes.size(), "f");
      ++taken;
      // The padding is gone, so the digest is wrong: never a file of ours.
      EXPECT_FALSE(read_integrity(head, parsed, "f").has_value());
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == ErrorCode::corrupt || error.code() == ErrorCode::unsupported)
          << error.what();
    }
  }
  EXPECT_GT(taken, 0);
}

TEST(Mutations, OfWholeFiles) {
  const auto file = testing::write_whole_file(testing::every_kind());
  const std::string whole(reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size());
  Dice dice(3);
  for (int i = 0; i < 3000; ++i) {
    const auto changed = mutated(whole, dice);
    if (changed == whole) continue;
    EXPECT_THROW(testing::read_whole_file(std::as_bytes(std::span(changed))), Error) << i;
  }
}

}  // namespace
}  // namespace understudy::format
