#include "format/integrity.h"

#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "format/helpers.h"
#include "format/layout.h"

namespace understudy::format {
namespace {

using testing::Bytes;
using testing::Metadata;

struct Sealed {
  std::vector<Entry> entries{{"w", "F32", {2}, 0, 8}};
  Metadata metadata{{"format", "pt"}};
  std::string tree = R"(["d","w",[0]])";
  std::vector<std::uint64_t> checksums{0x0123456789abcdef};
  std::string digest;
  Bytes bytes;

  explicit Sealed(std::uint64_t capacity = kAlignment) {
    bytes = write_sealed_header(entries, metadata, tree, checksums, capacity, digest);
  }
};

std::optional<Integrity> read(std::span<const std::byte> header, std::uint64_t file_nbytes) {
  const auto parsed = read_header(header, file_nbytes, "f");
  return read_integrity(header, parsed, "f");
}

// The header with `from` replaced by `to`, of the same length, sealed again.
Bytes edited(const Sealed& sealed, std::string_view from, std::string_view to) {
  EXPECT_EQ(from.size(), to.size());
  std::string text(reinterpret_cast<const char*>(sealed.bytes.data()), sealed.bytes.size());
  const auto at = text.find(from);
  EXPECT_NE(at, text.npos);
  text.replace(at, from.size(), to);
  constexpr std::size_t kDigits = 46;  // as docs/format.md says
  text.replace(kDigits, 32, std::string(32, '0'));
  text.replace(kDigits, 32, hash128_hex(std::as_bytes(std::span(text))));
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

TEST(Integrity, WhatIsSealedIsRead) {
  const Sealed sealed;
  ASSERT_EQ(sealed.bytes.size(), kAlignment);
  const auto integrity = read(sealed.bytes, kAlignment + 8);
  ASSERT_TRUE(integrity);
  EXPECT_EQ(integrity->major, 1);
  EXPECT_EQ(integrity->minor, 0);
  EXPECT_EQ(integrity->tree, sealed.tree);
  EXPECT_EQ(integrity->checksums, sealed.checksums);
  EXPECT_EQ(integrity->digest, sealed.digest);
  EXPECT_EQ(sealed.bytes.back(), std::byte{' '});
}

TEST(Integrity, AFileOfOthersHasNone) {
  const auto bytes = testing::file_of(R"({"__metadata__":{"format":"pt","understudy.new":"x"}})");
  EXPECT_FALSE(read(bytes, bytes.size()));
}

TEST(Integrity, EveryFlippedBitIsFound) {
  const Sealed sealed;
  int found = 0;
  for (std::size_t bit = 0; bit < sealed.bytes.size() * 8; ++bit) {
    auto bytes = sealed.bytes;
    bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    try {
      const auto nbytes = read_header_nbytes(std::span(bytes).first(8), kAlignment + 8, "f");
      // The data that follows a shorter header, or what a longer one takes of it.
      bytes.resize(nbytes);
      if (!read(bytes, kAlignment + 8))
        ADD_FAILURE() << "bit " << bit << " makes it a file of others";
      ADD_FAILURE() << "bit " << bit << " is not noticed";
    } catch (const Error&) {
      ++found;
    }
  }
  EXPECT_EQ(found, 8 * static_cast<int>(kAlignment));
}

TEST(Integrity, AnyKeyWithoutTheOthersIsDamage) {
  const Sealed sealed;
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"understudy.digest", "understudy.digesu"},
           {"understudy.format", "understudy.formau"},
           {"understudy.checksums", "understudy.checksumt"},
           {"understudy.tree", "understudy.treu"}}) {
    fakes::expect_error(ErrorCode::corrupt, "but not " + from,
                        [&] { read(edited(sealed, from, to), kAlignment + 8); });
  }
}

TEST(Integrity, SealedNonsenseIsRefused) {
  const Sealed sealed;
  fakes::expect_error(ErrorCode::corrupt, "has 16 digits where 0 blocks", [&] {
    read(edited(sealed, "[2],\"data_offsets\":[0,8]", "[0],\"data_offsets\":[0,0]"), kAlignment);
  });
  fakes::expect_error(ErrorCode::corrupt, "checksum 0", [&] {
    read(edited(sealed, "0123456789abcdef", "0123456789abcdeF"), kAlignment + 8);
  });
  for (const auto* version : {"1.x", "1-0", "1. ", "-.0", ".10", "10.", "100"}) {
    fakes::expect_error(ErrorCode::corrupt, "not a version", [&] {
      read(edited(sealed, "format\":\"1.0\"", "format\":\"" + std::string(version) + "\""),
           kAlignment + 8);
    });
  }
  EXPECT_EQ(read(edited(sealed, "format\":\"1.0\"", "format\":\"1.9\""), kAlignment + 8)->minor, 9);
}

TEST(Integrity, AnUnknownMajorVersionIsRefusedByName) {
  const Sealed sealed;
  for (const auto* version : {"2.0", "0.9"}) {
    fakes::expect_error(ErrorCode::unsupported, version, [&] {
      read(edited(sealed, "format\":\"1.0\"", "format\":\"" + std::string(version) + "\""),
           kAlignment + 8);
    });
  }
}

// A whole header with these metadata, padded to `nbytes`.
Bytes header_with(std::string metadata, std::size_t nbytes) {
  auto text = "{\"__metadata__\":{" + metadata + "}}";
  text.append(nbytes - kPrefixNbytes - text.size(), ' ');
  return testing::file_of(text);
}

TEST(Integrity, TheDigestMustStandAtItsPlace) {
  const auto bytes = header_with(" \"understudy.digest\":\"" + std::string(32, '0') +
                                     R"(","understudy.format":"1.0","understudy.checksums":"",)"
                                     R"("understudy.tree":"null")",
                                 kAlignment);
  fakes::expect_error(ErrorCode::corrupt, "at byte 46", [&] { read(bytes, bytes.size()); });
}

TEST(Integrity, WhatAnotherToolHasRewrittenHasNone) {
  const std::string digest = "\"understudy.digest\":\"" + std::string(32, '0') + "\"";
  const std::string others =
      R"("understudy.format":"1.0","understudy.checksums":"","understudy.tree":"null")";
  for (const std::string& metadata : {digest + "," + others, others + "," + digest}) {
    for (const std::size_t nbytes : {std::size_t{kAlignment}, std::size_t{kAlignment} + 8}) {
      const auto bytes = header_with(metadata, nbytes);
      if (nbytes == kAlignment && metadata.starts_with(digest)) {
        // As ours, but for the digest: that is damage.
        fakes::expect_error(ErrorCode::corrupt, "digest", [&] { read(bytes, bytes.size()); });
      } else {
        EXPECT_FALSE(read(bytes, bytes.size()));
      }
    }
  }
  // Half of our metadata.
  const auto half = header_with(others, kAlignment + 8);
  EXPECT_FALSE(read(half, half.size()));
}

TEST(Integrity, TheWriterRefusesWhatDoesNotFit) {
  const Sealed sealed;
  const std::string text(reinterpret_cast<const char*>(sealed.bytes.data()), sealed.bytes.size());
  const auto used = text.find_last_not_of(' ') + 1;
  EXPECT_EQ(Sealed(used).bytes.size(), used);
  fakes::expect_error(ErrorCode::invalid, "the layout left", [&] { Sealed(used - 1); });
}

TEST(Integrity, ReservedAndRepeatedMetadataIsRefused) {
  std::string digest;
  const auto write = [&](const Metadata& metadata) {
    return write_sealed_header({}, metadata, "null", {}, 4096, digest);
  };
  fakes::expect_error(ErrorCode::invalid, "reserved", [&] {
    write({{"understudy.anything", "x"}});
  });
  fakes::expect_error(ErrorCode::invalid, "twice", [&] { write({{"a", "1"}, {"a", "2"}}); });
  fakes::expect_error(ErrorCode::invalid, "not UTF-8", [&] { write({{"a", "\xFF"}}); });
}

TEST(Integrity, SizesAreForeseenExactly) {
  const Metadata metadata{{"format", "pt"}, {"q\"", "\n\xC3\xA9"}};
  for (const std::size_t blocks : {0, 1, 3}) {
    const std::vector<Entry> entries(
        blocks > 0, Entry{"w", "U8", {blocks * kBlockNbytes}, 0, blocks * kBlockNbytes});
    const std::vector<std::uint64_t> checksums(blocks);
    const std::string tree = R"(["d","\n",1])";
    std::string digest;
    const auto bytes = write_sealed_header(entries, metadata, tree, checksums, 4096, digest);
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::string tree_json;
    append_json_string(tree_json, tree);
    const auto entries_nbytes = blocks == 0 ? 1 : write_header_json(entries, {}).size();
    EXPECT_EQ(
        sealed_header_nbytes(entries_nbytes, metadata, tree_json.size(), blocks * kBlockNbytes),
        text.find_last_not_of(' ') + 1);
  }
}

}  // namespace
}  // namespace understudy::format
