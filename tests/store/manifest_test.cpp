#include "store/manifest.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fakes/expect_error.h"
#include "format/hash.h"
#include "store/names.h"

namespace understudy::store {
namespace {

using fakes::expect_error;

Manifest example() {
  Manifest manifest;
  manifest.step = 7;
  manifest.time = "2026-01-02T03:04:05Z";
  manifest.files = {{"shard-00000-of-00001.safetensors", 12345, std::string(32, 'a')}};
  manifest.metadata_json =
      R"({"loss":1.5,"name":"it is \"é\"","big":123456789012345678901234567890})";
  return manifest;
}

/// Makes the digest of an edited text right again.
std::string sealed(std::string text) {
  const std::size_t begin = text.size() - std::string_view("\"\n}\n").size() - 32;
  text.replace(begin, 32, std::string(32, '0'));
  return text.replace(begin, 32, format::hash128_hex(std::as_bytes(std::span(text))));
}

std::string edited(const std::string& from, const std::string& to) {
  std::string text = write_manifest(example());
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("not in the manifest: " + from);
  return sealed(text.replace(at, from.size(), to));
}

TEST(Manifest, ComesBackAsItWas) {
  const Manifest manifest = read_manifest(write_manifest(example()), "f");
  EXPECT_EQ(manifest.major, 1);
  EXPECT_EQ(manifest.minor, 0);
  EXPECT_EQ(manifest.step, 7);
  EXPECT_EQ(manifest.world_size, 1);
  EXPECT_EQ(manifest.time, "2026-01-02T03:04:05Z");
  ASSERT_EQ(manifest.files.size(), 1u);
  EXPECT_EQ(manifest.files[0].name, "shard-00000-of-00001.safetensors");
  EXPECT_EQ(manifest.files[0].nbytes, 12345u);
  EXPECT_EQ(manifest.files[0].digest, std::string(32, 'a'));
  EXPECT_EQ(manifest.metadata_json, example().metadata_json);
}

TEST(Manifest, IsJsonForEverybody) {
  const auto json = nlohmann::json::parse(write_manifest(example()));
  EXPECT_EQ(json["version"], "1.0");
  EXPECT_EQ(json["step"], 7);
  EXPECT_EQ(json["metadata"]["name"], "it is \"é\"");
  EXPECT_TRUE(json["required_features"].empty());
}

TEST(Manifest, MetadataKeepsItsDigits) {
  Manifest manifest = example();
  for (const char* text : {"null", "-0.0", "1e-7", "0.1", "9223372036854775807", "[1,[],{}]",
                           "\"\"", R"([{"a":[true,false,null]},-5])"}) {
    manifest.metadata_json = text;
    EXPECT_EQ(read_manifest(write_manifest(manifest), "f").metadata_json, text);
  }
}

TEST(Manifest, UnknownKeysAreIgnored) {
  const std::string text = edited("\"step\": 7,", "\"step\": 7, \"later\": {\"digest\": \"x\"},");
  EXPECT_EQ(read_manifest(text, "f").step, 7);
}

TEST(Manifest, NewerMinorVersionIsRead) {
  EXPECT_EQ(read_manifest(edited("\"1.0\"", "\"1.12\""), "f").minor, 12);
}

TEST(Manifest, UnknownMajorVersionAndFeaturesAreRefusedByName) {
  expect_error(ErrorCode::unsupported, "f is of format version 2.0; this build reads version 1",
               [] { read_manifest(edited("\"1.0\"", "\"2.0\""), "f"); });
  expect_error(ErrorCode::unsupported, "needs the feature \"zstd\"", [] {
    read_manifest(edited("\"required_features\": []", "\"required_features\": [\"zstd\"]"), "f");
  });
}

TEST(Manifest, EveryFlippedBitIsFound) {
  const std::string whole = write_manifest(example());
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string text = whole;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    EXPECT_THROW(read_manifest(text, "f"), Error) << "bit " << bit;
  }
}

TEST(Manifest, EveryTruncationIsFound) {
  const std::string whole = write_manifest(example());
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_THROW(read_manifest(whole.substr(0, n), "f"), Error) << n;
  }
  EXPECT_THROW(read_manifest(whole + "\n", "f"), Error);
}

TEST(Manifest, BadFieldsAreNamed) {
  const auto refuse = [](const std::string& from, const std::string& to, const std::string& part) {
    expect_error(ErrorCode::corrupt, part, [&] { read_manifest(edited(from, to), "f"); });
  };
  refuse("\"step\": 7", "\"step\": -7", "\"step\" is not a number");
  refuse("\"step\": 7", "\"step\": 7.0", "\"step\" is not a number");
  refuse("\"step\": 7", "\"step\": 9223372036854775808", "\"step\" is not a number below 2^63");
  refuse("\"step\": 7", "\"step\": 7, \"step\": 8", "\"step\" twice");
  refuse("\"step\": 7", "\"stop\": 7", "no \"step\"");
  refuse("\"nbytes\": 12345", "\"nbytes\": \"12345\"", "\"nbytes\" is not a number");
  refuse("\"nbytes\": 12345", "\"nbytes\": 1, \"nbytes\": 12345", "\"nbytes\" twice");
  refuse("\"1.0\"", "\"1\"", "\"version\"");
  refuse("\"1.0\"", "\"1.0.0\"", "\"version\"");
  refuse("\"1.0\"", "\" 1.0\"", "\"version\"");
  refuse("\"1.0\"", "10", "\"version\" is not a text");
  refuse("\"time\"", "\"time\": 5, \"x\"", "\"time\" is not a text");
  refuse("\"files\": [", "\"files\": 5, \"x\": [", "\"files\" is not a list");
  refuse("\"files\": [", "\"files\": [5, ", "a file that is no object");
  refuse("\"required_features\": []", "\"required_features\": [5]", "a feature that is no text");
  refuse("{\n", "[\n", "not the JSON it should be");
  refuse("\"step\": 7,", "\"step\": 7,,", "not the JSON it should be");
  refuse("\"step\": 7,", "\"x\": \"\xff\", \"step\": 7,", "not the JSON it should be");
  refuse("\"step\": 7,",
         "\"x\": " + std::string(600, '[') + std::string(600, ']') + ", \"step\": 7,",
         "too many brackets");
}

TEST(Manifest, FileNamesStayInTheFolder) {
  for (const char* name :
       {"", ".", "..", "../a", "a/b", "/etc/passwd", "checkpoint.json", "a\\u0000b"}) {
    expect_error(ErrorCode::corrupt, "cannot be the name",
                 [&] { read_manifest(edited("shard-00000-of-00001.safetensors", name), "f"); });
  }
  const std::string file = R"({"name": "a", "nbytes": 1, "digest": ""},)";
  expect_error(ErrorCode::corrupt, "\"a\" cannot be the name",
               [&] { read_manifest(edited("\"files\": [", "\"files\": [" + file + file), "f"); });
}

TEST(StepName, IsOneNameAStep) {
  std::int64_t step = -1;
  for (const std::int64_t wanted : {std::int64_t{0}, std::int64_t{7}, INT64_MAX}) {
    ASSERT_TRUE(parse_step_name(step_name(wanted), step));
    EXPECT_EQ(step, wanted);
  }
  for (const char* name :
       {"step-", "step-07", "step-+7", "step--7", "step-7x", "step-7.tmp-0123abcd", "Step-7",
        "xstep-7", "step-9223372036854775808", "", "step-00"}) {
    EXPECT_FALSE(parse_step_name(name, step)) << name;
  }
}

TEST(MarkedName, IsOursOnlyWhenExact) {
  const std::string name = marked_name("step-12", kTemporary);
  EXPECT_EQ(step_of_marked_name(name, kTemporary), 12);
  EXPECT_EQ(step_of_marked_name(name, kSetAside), std::nullopt);
  EXPECT_EQ(step_of_marked_name("step-1.old-0123abcd", kSetAside), 1);
  for (const char* other : {"step-1.tmp-0123abc", "step-1.tmp-0123abcde", "step-1.tmp-0123ABCD",
                            "step-1.tmp-0123abcg", "step-01.tmp-0123abcd", "x.tmp-0123abcd",
                            "step-1.tmp-0123abcd~", ".step-1.tmp-0123abcd", "step-1"}) {
    EXPECT_EQ(step_of_marked_name(other, kTemporary), std::nullopt) << other;
  }
}

}  // namespace
}  // namespace understudy::store
