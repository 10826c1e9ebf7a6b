#include "store/foreign.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "store/run_folder.h"
#include "store/verify.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using testing::HasSubstr;
using namespace std::string_literals;

struct Content {
  const char* what;
  std::string begins;
  std::string file = "model.safetensors";
};

std::string zip_of(const std::string& name) {
  std::string header = "PK\x03\x04" + std::string(26, '\0');
  header[26] = static_cast<char>(name.size());
  return header + name + "bytes";
}

const Content kContents[] = {
    {"a git-lfs pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n"},
    {"an HTML page", "\n <!DOCTYPE html><html><head>"},
    {"an HTML page", "<HTML lang=\"en\"> Not found"},
    {"a GGUF file", "GGUF\x03\0\0\0\0\0\0\0"s},
    {"an archive of torch.save", zip_of("archive/data.pkl")},
    {"an archive of NumPy arrays", zip_of("weights.npy")},
    {"a zip archive", zip_of("a.txt")},
    {"a pickle", "\x80\x05\x95\x10\0\0\0\0\0\0\0}"s},
    {"a pickle", "\x80\x02}q\0."s},
    {"an old torch.save", "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02M"},
    {"a NumPy array", "\x93NUMPY\x01\0v\0{'descr'"s},
    {"an HDF5 file", "\x89HDF\r\n\x1a\n\0\0"s},
    {"compressed by gzip", "\x1f\x8b\x08\0\0\0\0\0\0\x03"s},
    {"compressed by zstd", "\x28\xb5\x2f\xfd\x04\x00"s},
    {"a tar archive", std::string(257, 'a') + "ustar"},
    {"the index of a model in several files", R"({"weight_map": {}})", "m.safetensors.index.json"},
    {"the manifest of a step", "{\n  \"version\": \"1.0\"", "checkpoint.json"},
    {"a JSON text", "{\"a\": 1}", "config.json"},
};

TEST(ForeignFiles, AreNamedForWhatTheyAre) {
  fakes::TemporaryFolder folder;
  for (const Content& content : kContents) {
    SCOPED_TRACE(content.what);
    const fs::path file = folder / content.file;
    fakes::write_text(file, content.begins);
    expect_error(ErrorCode::unsupported, content.what, [&] { ShardReader reader(file); });
    expect_error(ErrorCode::unsupported, content.what, [&] { verify_file(file); });
  }
}

TEST(ForeignFiles, InAStepAreDamage) {
  RunFolder run;
  run.commit(1, 1);
  const fs::path shard = run / "step-1" / kShardName;
  const auto nbytes = fs::file_size(shard);
  fakes::write_text(shard, "<!doctype html>" + std::string(nbytes - 15, 'x'));
  const StepFolder step = look_at_step(run / "step-1");
  ASSERT_TRUE(step.is_complete()) << "the size is the same";
  expect_error(ErrorCode::corrupt, "an HTML page", [&] { open_step(step); });
  EXPECT_THAT(verify_step(step).damage.at(0).what, HasSubstr("an HTML page"));
  fs::remove(run / "step-1/checkpoint.json");
  EXPECT_EQ(verify_step(run / "step-1").damage.size(), 2u);
}

TEST(ForeignFiles, DamagedSafetensorsAreNotTakenForOthers) {
  fakes::TemporaryFolder folder;
  // Lengths whose bytes are the marks of a pickle and of gzip.
  for (const unsigned length : {0x280u, 0x8b1fu}) {
    std::string text(8, '\0');
    text[0] = static_cast<char>(length);
    text[1] = static_cast<char>(length >> 8);
    text += "{\"x\":" + std::string(length, ' ');
    fakes::write_text(folder / "f", text);
    expect_error(ErrorCode::corrupt, "", [&] { ShardReader reader(folder / "f"); });
  }
}

TEST(ForeignFolders, AreNamedByWhatLiesThere) {
  const std::pair<const char*, const char*> files[] = {
      {".metadata", "torch.distributed.checkpoint (.metadata)"},
      {"last.ckpt", "Lightning (last.ckpt)"},
      {"best.pt", "torch.save (best.pt)"},
      {"model.safetensors", "safetensors file, which load_file reads (model.safetensors)"},
      {"model.safetensors.index.json", "a Hugging Face model"},
      {"pytorch_model-00001-of-00002.bin", "a Hugging Face model"},
      {"readme.md", ""},
      {"training_args.bin", ""},
  };
  for (const auto& [name, what] : files) {
    fakes::TemporaryFolder folder;
    fakes::write_text(folder / name, "x");
    const std::string told = name_checkpoint_in(os::Directory::open(folder.path()));
    EXPECT_THAT(told, HasSubstr(what));
    EXPECT_EQ(told.empty(), std::string(what).empty()) << told;
  }
  for (const std::string name :
       {"step-0001", "checkpoint-500", "global_step12", "epoch=3", "Step_7", "iter_0000100"}) {
    fakes::TemporaryFolder folder;
    EXPECT_EQ(name_checkpoint_in(os::Directory::open(folder.path())), "");
    fs::create_directory(folder / name);
    EXPECT_THAT(name_checkpoint_in(os::Directory::open(folder.path())),
                HasSubstr("named like a step, but not as ours are (step-1) (" + name + ")"));
  }
}

TEST(ForeignFolders, AStepItselfIsKnownByItsManifest) {
  RunFolder run;
  run.commit(1, 1);
  EXPECT_TRUE(is_step_itself(os::Directory::open(run / "step-1")));
  EXPECT_FALSE(is_step_itself(os::Directory::open(run.path())));
  fakes::write_text(run / "checkpoint.json", "{}");
  EXPECT_FALSE(is_step_itself(os::Directory::open(run.path()))) << "somebody else's";
}

}  // namespace
}  // namespace understudy::store
