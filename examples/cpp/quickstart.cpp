// The shortest use from C++: save a state, change it, resume it in place.
//
//     quickstart [FOLDER]
#include <understudy/understudy.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <vector>

namespace {

constexpr std::int64_t kRows = 1024;
constexpr std::int64_t kColumns = 1024;
constexpr std::int64_t kStep = 7;

int run(const std::filesystem::path& folder) {
  // The weights stay yours: Understudy reads them during save and writes them
  // during resume, and borrows them for no longer than that.
  std::vector<float> weights(kRows * kColumns, 0.5F);
  auto state = understudy::Value::dict({
      {"weights",
       understudy::Tensor::borrow(weights.data(), understudy::DType::f32, {kRows, kColumns})},
      {"step", kStep},
  });

  understudy::Checkpointer checkpointer({.directory = folder, .keep = 3});
  understudy::SaveOptions options;
  options.overwrite = true;  // so that the program can run twice on one folder
  const auto saved = checkpointer.save(kStep, state, options).wait();
  std::printf("saved %s\n", saved.c_str());

  std::fill(weights.begin(), weights.end(), 0.0F);  // as if the process had died
  const auto step = checkpointer.resume(state);
  checkpointer.close();
  const bool is_back =
      step == kStep && state.at("step").as_integer() == kStep &&
      std::all_of(weights.begin(), weights.end(), [](float w) { return w == 0.5F; });
  std::printf("resumed step %lld: %s\n", static_cast<long long>(step.value_or(-1)),
              is_back ? "every weight is back" : "the weights differ");
  return is_back ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? argv[1] : "quickstart-run");
  } catch (const understudy::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
