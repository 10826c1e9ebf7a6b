#include "restore/step_index.h"

#include <utility>
#include <vector>

#include "base/error.h"
#include "store/step_files.h"

namespace understudy::restore {

std::string index_name(const store::StepFolder& step) {
  return (step.path / store::kIndexName).native();
}

ranks::StepIndex read_index(const store::StepFolder& step) {
  std::vector<std::string> files;
  for (const auto& file : step.manifest->files) files.push_back(file.name);
  return ranks::read_step_index(store::read_index_text(step), std::move(files), index_name(step));
}

void require_stored(const ranks::ChunkIndex& index, const ranks::StoredTensor& tensor,
                    const ranks::StoredChunk& stored, const Value& value, const std::string& name) {
  if (value.type() == Value::Type::tensor && value.as_tensor().dtype() == tensor.dtype &&
      value.as_tensor().shape() == stored.chunk.sizes) {
    return;
  }
  fail(ErrorCode::corrupt,
       "{} says that '{}' of {} is a chunk of '{}' with the type {} and the shape {}, which it is "
       "not",
       name, stored.entry, index.files[stored.file], tensor.path, understudy::name(tensor.dtype),
       ranks::to_text(stored.chunk.sizes));
}

}  // namespace understudy::restore
