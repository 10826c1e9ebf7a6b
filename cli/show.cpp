#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "output.h"
#include "understudy/inspect.h"
#include "values.h"

namespace understudy::cli {
namespace {

Json entry_json(const EntryInfo& entry, bool has_shards) {
  Json json{{"name", entry.name},
            {"dtype", entry.dtype},
            {"shape", entry.shape},
            {"nbytes", entry.nbytes},
            {"offset", entry.offset}};
  if (has_shards) json["file"] = entry.file;
  return json;
}

Json chunks_json(const std::vector<ChunkInfo>& chunks) {
  auto array = Json::array();
  for (const auto& chunk : chunks) {
    array.push_back({{"file", chunk.file},
                     {"entry", chunk.entry},
                     {"offsets", chunk.offsets},
                     {"sizes", chunk.sizes}});
  }
  return array;
}

Json tensor_json(const TensorInfo& tensor, bool has_shards) {
  Json json{{"path", tensor.path},          {"dtype", tensor.dtype},   {"shape", tensor.shape},
            {"strides", tensor.strides},    {"nbytes", tensor.nbytes}, {"entry", tensor.entry},
            {"is_shared", tensor.is_shared}};
  if (has_shards) {
    json["file"] = tensor.file;
    json["chunks"] = chunks_json(tensor.chunks);
  }
  return json;
}

Json file_json(const Description& d) {
  const bool has_shards = d.shards > 1;
  auto entries = Json::array(), tensors = Json::array();
  for (const auto& entry : d.entries) entries.push_back(entry_json(entry, has_shards));
  for (const auto& tensor : d.tensors) tensors.push_back(tensor_json(tensor, has_shards));
  Json json{{"file", d.file.string()},
            {"nbytes", d.file_nbytes},
            {"is_ours", d.is_ours},
            {"step", d.step ? Json(*d.step) : Json(nullptr)},
            {"metadata", metadata_json(d.metadata)},
            {"entries", std::move(entries)},
            {"tensors", std::move(tensors)},
            {"tree", tree_json(d)}};
  if (has_shards) json["shards"] = d.shards;
  return json;
}

bool is_empty(const Value& metadata) {
  return metadata.is_none() || (metadata.type() == Value::Type::dict && metadata.pairs().empty());
}

std::string file_text(const Description& d, bool all) {
  auto text = escape(d.file.string()) + "\n";
  if (d.step) text += fmt::format("step {}, ", *d.step);
  text += human_size(d.file_nbytes);
  if (d.file_nbytes >= 1024) text += fmt::format(" ({} bytes)", d.file_nbytes);
  text += fmt::format(", {} in {}", counted(d.tensors.size(), "tensor"),
                      counted(d.entries.size(), "entry"));
  if (d.shards > 1) text += fmt::format(" of {}", counted(d.shards, "shard"));
  text += fmt::format(", {}\n", d.is_ours ? "written by Understudy" : "a plain safetensors file");
  if (!is_empty(d.metadata)) {
    // ASCII, so that nothing in it reaches the terminal raw.
    text +=
        fmt::format("metadata {}\n",
                    metadata_json(d.metadata).dump(-1, ' ', true, Json::error_handler_t::replace));
  }
  return text + "\n" + tree_text(d, all);
}

}  // namespace

int run(const ShowArguments& options) {
  const auto files = describe(options.path);
  if (options.json) {
    auto array = Json::array();
    for (const auto& file : files) array.push_back(file_json(file));
    print_json({{"path", options.path}, {"files", std::move(array)}});
  } else {
    for (const auto& file : files) print(file_text(file, options.all));
  }
  return kFine;
}

}  // namespace understudy::cli
