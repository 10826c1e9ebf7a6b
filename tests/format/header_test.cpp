#include "format/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "format/hash.h"
#include "format/header_writer.h"
#include "format/helpers.h"

namespace understudy::format {
namespace {

using testing::Bytes;
using testing::file_of;

Header read(const Bytes& bytes, std::uint64_t file_nbytes) {
  const auto nbytes = read_header_nbytes(
      std::span(bytes).first(std::min<std::size_t>(8, bytes.size())), file_nbytes, "f");
  return read_header(std::span(bytes).first(nbytes), file_nbytes, "f");
}

Header read(std::string_view json, std::uint64_t data_nbytes = 0) {
  const auto bytes = file_of(json, data_nbytes);
  return read(bytes, bytes.size());
}

// An entry with these fields.
std::string entry(std::string_view fields) {
  return "{\"x\":{" + std::string(fields) + "}}";
}

constexpr const char* kGood = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";

TEST(Header, ReadsWhatOthersWrite) {
  const auto header =
      read(R"({"__metadata__":{"format":"pt","b":"c"},)"
           R"("late":{"dtype":"I8","shape":[3],"data_offsets":[20,23]},)"
           R"("first":{"shape":[2,2],"data_offsets":[0,16],"dtype":"F32"},)"
           R"("empty":{"dtype":"F32","shape":[0,5],"data_offsets":[16,16]},)"
           R"("scalar":{ "dtype" : "I32" , "shape" : [ ] , "data_offsets" : [ 16 , 20 ] } }   )",
           23);
  ASSERT_EQ(header.entries.size(), 4u);
  EXPECT_EQ(header.entries[0].name, "first");
  EXPECT_EQ(header.entries[1].name, "empty");
  EXPECT_EQ(header.entries[2].name, "scalar");
  EXPECT_EQ(header.entries[3].name, "late");
  EXPECT_EQ(header.entries[0].shape, (std::vector<std::uint64_t>{2, 2}));
  EXPECT_EQ(header.entries[0].nbytes(), 16u);
  EXPECT_EQ(header.data_nbytes, 23u);
  ASSERT_NE(header.find_metadata("b"), nullptr);
  EXPECT_EQ(*header.find_metadata("b"), "c");
  EXPECT_EQ(header.find_metadata("c"), nullptr);
  EXPECT_TRUE(read("{}").entries.empty());
  EXPECT_TRUE(read(R"({"__metadata__":{}})").metadata.empty());
}

TEST(Header, KnowsEveryDtype) {
  for (const auto& [dtype, nbytes] : std::vector<std::pair<std::string, int>>{
           {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
           {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
           {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
           {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
           {"I64", 64},        {"U64", 64}}) {
    // Eight elements take as many bytes as one takes bits.
    const auto json =
        fmt::format(R"({{"x":{{"dtype":"{}","shape":[8],"data_offsets":[0,{}]}}}})", dtype, nbytes);
    EXPECT_EQ(read(json, static_cast<std::uint64_t>(nbytes)).entries[0].dtype, dtype);
  }
}

TEST(Header, NamesMayBeAnyText) {
  const auto header = read(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                           R"("\u00e9\n\"":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                           2);
  EXPECT_EQ(header.entries[0].name, "");
  EXPECT_EQ(header.entries[1].name, "\xC3\xA9\n\"");
}

// As the reference reads them.
TEST(Header, NullAsMetadataIsNone) {
  EXPECT_TRUE(read(R"({"__metadata__":null})").metadata.empty());
}

TEST(Header, FieldsThatNobodyKnowsAreReadPast) {
  for (const std::string value :
       {"1", "-1", "0.5", "true", "null", R"("x")", "[]", "[1,[2],{}]", R"(1,"extra":2)",
        R"({"dtype":"U8","shape":[3],"a":{"data_offsets":[[]]}})"}) {
    for (const std::string& json :
         {R"("extra":)" + value + "," + kGood, kGood + std::string(R"(,"extra":)") + value}) {
      const auto header = read("{\"x\":{" + json + "}}", 8);
      ASSERT_EQ(header.entries.size(), 1u) << json;
      EXPECT_EQ(header.entries[0].dtype, "F32");
      EXPECT_EQ(header.entries[0].end, 8u);
    }
  }
}

TEST(Header, DimensionsHaveAnEnd) {
  const auto shaped = [](int count) {
    std::string shape = "0";
    for (int i = 1; i < count; ++i) shape += ",1";
    return R"({"x":{"dtype":"U8","shape":[)" + shape + R"(],"data_offsets":[0,0]}})";
  };
  // One more than a tensor has: the parts of complex numbers.
  EXPECT_EQ(read(shaped(65), 0).entries[0].shape.size(), 65u);
  fakes::expect_error(ErrorCode::unsupported, "entry \"x\" in the header has more than 64",
                      [&] { read(shaped(66), 0); });
}

struct Fault {
  const char* what;  // part of the message
  std::string json;
  std::uint64_t data_nbytes = 8;
};

std::vector<Fault> faults() {
  const std::string good = kGood;
  const std::string meta = R"({"__metadata__":)";
  return {
      // The outside.
      {"does not begin with '{'", " " + entry(good)},
      {"does not begin with '{'", "\xEF\xBB\xBF" + entry(good)},
      {"does not begin with '{'", "[]", 0},
      {"does not begin with '{'", "", 0},
      {"does not begin with '{'", "null", 0},
      {"does not end with '}'", entry(good) + "\n"},
      {"does not end with '}'", entry(good) + "\t "},
      {"does not end with '}'", entry(good) + " x"},
      {"NUL", entry(good) + std::string(1, '\0')},
      {"NUL", "{}" + std::string(1, '\0') + "}", 0},
      {"not valid JSON", "{}{}", 0},
      {"does not end with '}'", "{", 0},
      {"not valid JSON", entry(good + ",")},
      {"not valid JSON", "{\"x\":{" + good + "},}"},
      {"not valid JSON", "{'x':{" + good + "}}"},
      {"does not begin with '{'", "/**/{}" + entry(good)},
      {"not valid JSON", "{/**/}", 0},
      {"not valid JSON", "{\"x\xFF\":{" + good + "}}"},
      {"not valid JSON", "{\"\xED\xA0\x80\":{" + good + "}}"},
      {"not valid JSON", "{\"\\ud800\":{" + good + "}}"},
      {"not valid JSON", "{\"a\nb\":{" + good + "}}"},
      // Names.
      {"there twice",
       "{\"x\":{" + good + R"(},"x":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}})"},
      {"there twice",
       "{\"x\":{" + good + R"(},"\u0078":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}})"},
      {"__metadata__ twice", R"({"__metadata__":{},"__metadata__":{}})", 0},
      {"__metadata__ twice", R"({"__metadata__":{},"__meta\u0064ata__":{}})", 0},
      // Metadata.
      {"a number", meta + R"({"a":1}})", 0},
      {"a null", meta + R"({"a":null}})", 0},
      {"an object", meta + R"({"a":{}}})", 0},
      {"a list", meta + R"({"a":[]}})", 0},
      {"a list", meta + "[]}", 0},
      {"a text", meta + R"("x"})", 0},
      {"a number", meta + "1}", 0},
      {"there twice", meta + R"({"a":"1","a":"2"}})", 0},
      {"there twice", meta + R"({"a":"1","\u0061":"2"}})", 0},
      // An entry as __metadata__.
      {"a list", meta + "{" + good + "}}"},
      // Fields.
      {"lacks", "{\"x\":{}}", 0},
      {"lacks", entry(R"("dtype":"F32","shape":[2])")},
      {"lacks", entry(R"("dtype":"F32","data_offsets":[0,8])")},
      {"lacks", entry(R"("shape":[2],"data_offsets":[0,8])")},
      {"lacks", entry(R"("dtype":"F32","shape":[2],"extra":[0,8])")},
      {"not valid JSON", entry(good + ",\"extra\":{]")},
      {"field dtype twice", entry(good + R"(,"dtype":"F32")")},
      {"field shape twice", entry(good + R"(,"shape":[2])")},
      {"field data_offsets twice", entry(good + R"(,"data_offsets":[0,8])")},
      {"unknown dtype", entry(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])")},
      {"unknown dtype", entry(R"("dtype":"f32","shape":[2],"data_offsets":[0,8])")},
      {"unknown dtype", entry(R"("dtype":"","shape":[2],"data_offsets":[0,8])")},
      {"a number", entry(R"("dtype":1,"shape":[2],"data_offsets":[0,8])")},
      {"a list", entry(R"("dtype":["F32"],"shape":[2],"data_offsets":[0,8])")},
      {"a number", entry(R"("dtype":"F32","shape":2,"data_offsets":[0,8])")},
      {"a text", entry(R"("dtype":"F32","shape":"2","data_offsets":[0,8])")},
      {"a null", entry(R"("dtype":"F32","shape":null,"data_offsets":[0,8])")},
      {"two numbers", entry(R"("dtype":"F32","shape":[2],"data_offsets":[])")},
      {"two numbers", entry(R"("dtype":"F32","shape":[2],"data_offsets":[0])")},
      {"a number", entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])")},
      {"a number", "{\"x\":1}", 0},
      {"a list", "{\"x\":[]}", 0},
      // Depth.
      {"a list", entry(R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])")},
      {"an object", entry(R"("dtype":"F32","shape":[{}],"data_offsets":[0,8])")},
      {"an object", entry(R"("dtype":"F32","shape":{},"data_offsets":[0,8])")},
      {"an object", entry(R"("dtype":{},"shape":[2],"data_offsets":[0,8])")},
      {"a list", "{\"x\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}", 0},
      // Numbers.
      {"a sign", entry(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])")},
      {"a sign", entry(R"("dtype":"F32","shape":[2],"data_offsets":[-0,8])")},
      {"not valid JSON", entry(R"("dtype":"F32","shape":[+2],"data_offsets":[0,8])")},
      {"not a plain", entry(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])")},
      {"not a plain", entry(R"("dtype":"F32","shape":[2e0],"data_offsets":[0,8])")},
      {"not a plain", entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8E0])")},
      {"not a plain",
       entry(R"("dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8])")},
      {"not valid JSON", entry(R"("dtype":"F32","shape":[02],"data_offsets":[0,8])")},
      {"not valid JSON", entry(R"("dtype":"F32","shape":[2],"data_offsets":[00,8])")},
      {"not valid JSON", entry(R"("dtype":"F32","shape":[0x2],"data_offsets":[0,8])")},
      {"true or false", entry(R"("dtype":"F32","shape":[true],"data_offsets":[0,8])")},
      // Sizes.
      {"overflows", entry(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8])")},
      {"overflows", entry(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,8])")},
      {"overflows", entry(R"("dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0])"),
       0},
      {"overflows", entry(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])"),
       0},
      {"need 12", entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])")},
      {"need 4", entry(R"("dtype":"F32","shape":[],"data_offsets":[0,8])")},
      {"whole bytes", entry(R"("dtype":"F4","shape":[3],"data_offsets":[0,8])")},
      {"whole bytes", entry(R"("dtype":"F6_E2M3","shape":[2],"data_offsets":[0,8])")},
      {"whole bytes", entry(R"("dtype":"F4","shape":[],"data_offsets":[0,0])"), 0},
      // Offsets.
      {"ends before", entry(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])")},
      {"a hole", entry(R"("dtype":"F32","shape":[2],"data_offsets":[1,9])"), 9},
      {"a hole", "{\"x\":{" + good + R"(},"y":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}})",
       10},
      {"overlaps", "{\"x\":{" + good + R"(},"y":{"dtype":"U8","shape":[1],"data_offsets":[7,8]}})"},
      {"overlaps",
       "{\"x\":{" + good + R"(},"y":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"},
      {"the file has", entry(good), 9},
      {"the file has", entry(good), 7},
      {"the file has", "{}", 1},
  };
}

TEST(Header, RefusesEveryFault) {
  for (const auto& fault : faults()) {
    SCOPED_TRACE(fault.json.substr(0, 200));
    const auto message = fakes::expect_error(ErrorCode::corrupt, fault.what,
                                             [&] { read(fault.json, fault.data_nbytes); });
    EXPECT_TRUE(message.starts_with("f: ")) << message;
    EXPECT_LT(message.size(), 400u);
  }
}

TEST(Header, RefusesLengthsThatCannotBe) {
  const auto refuse = [](std::uint64_t n, std::uint64_t file_nbytes, const char* what) {
    auto bytes = file_of("{}");
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(n >> (8 * i));
    fakes::expect_error(ErrorCode::corrupt, what,
                        [&] { read_header_nbytes(std::span(bytes).first(8), file_nbytes, "f"); });
  };
  refuse(3, 10, "exceeds the file's");
  refuse(~0ull, 10, "limit");
  refuse(~0ull, ~0ull, "limit");
  refuse(100'000'001, ~0ull, "limit");
  refuse(2, 7, "only 7 bytes");
  fakes::expect_error(ErrorCode::corrupt, "only 0 bytes", [] { read_header_nbytes({}, 0, "f"); });
  const auto bytes = file_of("{}");
  EXPECT_EQ(read_header_nbytes(std::span(bytes).first(8), 10, "f"), 10u);
  fakes::expect_error(ErrorCode::corrupt, "should have 10",
                      [&] { read_header(std::span(bytes).first(9), 10, "f"); });
}

TEST(Header, WhatIsWrittenIsRead) {
  std::vector<Entry> entries{
      {"a", "F32", {2, 3}, 0, 24}, {"", "U8", {0}, 24, 24}, {"q\"\\\n\xC3\xA9", "I64", {}, 24, 32}};
  const std::vector<std::pair<std::string, std::string>> metadata{{"format", "pt"}, {"k\n", "\""}};
  const auto json = write_header_json(entries, metadata);
  const auto header = read(json, 32);
  EXPECT_EQ(header.metadata, metadata);
  ASSERT_EQ(header.entries.size(), entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(header.entries[i].name, entries[i].name);
    EXPECT_EQ(header.entries[i].dtype, entries[i].dtype);
    EXPECT_EQ(header.entries[i].shape, entries[i].shape);
    EXPECT_EQ(header.entries[i].begin, entries[i].begin);
    EXPECT_EQ(header.entries[i].end, entries[i].end);
  }
  EXPECT_EQ(write_header_json({}, {}), "{}");
}

TEST(Header, AHundredThousandEntriesAreRead) {
  std::vector<Entry> entries;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    entries.push_back({fmt::format("model.layers.{}.weight", i), "F32", {1}, i * 4, i * 4 + 4});
  }
  const auto header = read(write_header_json(entries, {}), 400'000);
  EXPECT_EQ(header.entries.size(), entries.size());
  EXPECT_EQ(header.entries.back().name, entries.back().name);
}

// Names whose hashes fall into one slot of the table: the other way is taken,
// and finds the same.
TEST(Header, DuplicatesAreFoundAmongNamesThatCollide) {
  std::vector<std::string> names;
  constexpr std::size_t kCount = 100;   // more than the probes that are made
  constexpr std::uint64_t kMask = 255;  // slots for as many names, less one
  for (int i = 0; names.size() < kCount; ++i) {
    auto name = "name " + std::to_string(i);
    if ((hash64(std::as_bytes(std::span(name))) & kMask) < 2) names.push_back(std::move(name));
  }
  std::vector<std::string_view> texts(names.begin(), names.end());
  EXPECT_EQ(find_duplicate(texts), -1);
  texts.back() = names.front();
  EXPECT_GE(find_duplicate(texts), 0);
  texts.back() = names[kCount - 2];
  EXPECT_GE(find_duplicate(texts), 0);
}

}  // namespace
}  // namespace understudy::format
