// A program of somebody else's: installed headers and the installed library, nothing more.
//
//   consumer save|restore|missing DIRECTORY
#include <understudy/understudy.h>

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kRows = 300;
constexpr std::int64_t kColumns = 17;

int save(const std::string& directory) {
  std::vector<float> weights(kRows * kColumns);
  std::iota(weights.begin(), weights.end(), 0.5F);
  auto state = understudy::Value::dict(
      {{"w", understudy::Tensor::borrow(weights.data(), understudy::DType::f32, {kRows, kColumns})},
       {"step", 7}});
  understudy::Checkpointer checkpointer({.directory = directory, .keep = 3});
  const auto ticket = checkpointer.save(7, state);
  std::fill(weights.begin(), weights.end(), -1.0F);  // later writes are not in the snapshot
  std::printf("%s\n", ticket.wait().c_str());
  checkpointer.close();
  return 0;
}

int restore(const std::string& directory) {
  understudy::Checkpointer checkpointer({.directory = directory});
  const auto checkpoint = checkpointer.restore();
  const auto& tensor = checkpoint.state.at("w").as_tensor();
  const auto* weights = reinterpret_cast<const float*>(tensor.data());
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    if (weights[i] != 0.5F + static_cast<float>(i)) return 1;
  }
  const bool is_right = tensor.shape() == understudy::Dims{kRows, kColumns} &&
                        checkpoint.state.at("step").as_integer() == 7 && checkpoint.step == 7;
  std::printf("step %d from %s\n", static_cast<int>(checkpoint.step), checkpoint.source.c_str());
  return is_right ? 0 : 1;
}

int missing(const std::string& directory) {
  try {
    understudy::Checkpointer({.directory = directory}).restore();
  } catch (const understudy::Error& error) {
    std::printf("%s\n", std::string(understudy::to_string(error.code())).c_str());
    return 0;
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string command = argv[1];
  if (command == "save") return save(argv[2]);
  if (command == "restore") return restore(argv[2]);
  if (command == "missing") return missing(argv[2]);
  return 2;
}
