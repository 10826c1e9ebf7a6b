#include "ranks/index_text.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "format/safetensors.h"

namespace understudy::ranks {
namespace {

using Json = nlohmann::json;

// Ours nests four deep.
constexpr std::size_t kMaxJsonDepth = 8;

std::string dims_text(const Dims& dims) {
  return to_text(dims);  // as JSON has it
}

std::string chunk_text(const StoredChunk& stored) {
  return format_text("[{}, {}, {}, {}]", stored.file, format::json_string(stored.entry),
                     dims_text(stored.chunk.offsets), dims_text(stored.chunk.sizes));
}

std::string tensor_text(const StoredTensor& tensor) {
  std::string chunks;
  for (const auto& stored : tensor.chunks) {
    chunks += (chunks.empty() ? "" : ", ") + chunk_text(stored);
  }
  return format_text("{{\"path\": {}, \"dtype\": \"{}\", \"shape\": {}, {}\"chunks\": [{}]}}",
                     format::json_string(tensor.path), name(tensor.dtype), dims_text(tensor.shape),
                     tensor.is_tensor ? "" : "\"tensor\": false, ", chunks);
}

// What is refused before the text becomes objects: bad JSON, keys twice, deep nesting. Apart from
// the parsing, because nlohmann's own callbacks take time by the square of a list's length.
class Checker final : public nlohmann::json_sax<Json> {
 public:
  std::string problem;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return refuse("binary"); }  // JSON has none

  bool start_object(std::size_t) override { return open(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& key) override {
    if (keys_.back().insert(key).second) return true;
    return refuse(format_text("the key {} twice", in_quotes(key)));
  }

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    return refuse(error.what());
  }

 private:
  bool refuse(std::string why) {
    problem = std::move(why);
    return false;
  }

  bool open() {
    if (keys_.size() == kMaxJsonDepth) return refuse("brackets in too many brackets");
    keys_.emplace_back();
    return true;
  }

  bool close() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;  // of each open bracket
};

class Reader {
 public:
  explicit Reader(std::string_view file) : file_(file) {}

  StepIndex read(std::string_view text, std::vector<std::string> files) {
    const auto json = parse(text);
    const auto& version = member(json, "version");
    if (!version.is_string()) refuse("the version is no text");
    if (!version.get_ref<const std::string&>().starts_with("1.")) {
      fail(ErrorCode::unsupported, "{} is of version {}; this build reads version 1", file_,
           in_quotes(version.get_ref<const std::string&>()));
    }
    StepIndex index;
    index.chunks.files = std::move(files);
    index.skeleton = text_of(member(json, "tree"));
    if (json.contains("per_rank")) index.per_rank = names_of(member(json, "per_rank"));
    const auto& tensors = member(json, "tensors");
    if (!tensors.is_array()) refuse("\"tensors\" is no list");
    for (const auto& tensor : tensors) index.chunks.tensors.push_back(tensor_of(tensor));
    require_whole(index.chunks, file_);
    return index;
  }

 private:
  [[noreturn]] void refuse(std::string_view why) const {
    fail(ErrorCode::corrupt, "{} is not the index that it should be: {}", file_, why);
  }

  Json parse(std::string_view text) const {
    Checker checker;
    if (!Json::sax_parse(text.begin(), text.end(), &checker)) refuse(checker.problem);
    return Json::parse(text);
  }

  const Json& member(const Json& object, const char* name) const {
    if (!object.is_object()) refuse("an object is missing");
    const auto found = object.find(name);
    if (found == object.end()) refuse(format_text("\"{}\" is missing", name));
    return *found;
  }

  std::string text_of(const Json& json) const {
    if (!json.is_string()) refuse("a text is missing");
    return json.get<std::string>();
  }

  std::vector<std::string> names_of(const Json& json) const {
    if (!json.is_array()) refuse("a list of names is missing");
    std::vector<std::string> names;
    std::set<std::string> seen;
    for (const auto& name : json) {
      names.push_back(text_of(name));
      if (!seen.insert(names.back()).second) {
        refuse(format_text("the name {} twice", in_quotes(names.back())));
      }
    }
    return names;
  }

  std::int64_t number_of(const Json& json) const {
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!json.is_number_unsigned() || json.get<std::uint64_t>() > kMost) {
      refuse("a number from 0 is missing");
    }
    return json.get<std::int64_t>();
  }

  Dims dims_of(const Json& json) const {
    if (!json.is_array()) refuse("a list of numbers is missing");
    if (json.size() > kMaxDims) refuse(format_text("{} dimensions", json.size()));
    Dims dims;
    for (const auto& n : json) dims.push_back(number_of(n));
    return dims;
  }

  StoredChunk chunk_of(const Json& json) const {
    if (!json.is_array() || json.size() != 4) refuse("a chunk is not four things");
    const auto number = number_of(json[0]);
    if (number > std::numeric_limits<std::uint32_t>::max()) refuse("a file that is not there");
    return {
        static_cast<std::uint32_t>(number), text_of(json[1]), {dims_of(json[2]), dims_of(json[3])}};
  }

  StoredTensor tensor_of(const Json& json) const {
    StoredTensor tensor;
    tensor.path = text_of(member(json, "path"));
    const auto dtype = dtype_from_name(text_of(member(json, "dtype")));
    if (!dtype) refuse(format_text("the dtype of '{}' is unknown", tensor.path));
    tensor.dtype = *dtype;
    tensor.shape = dims_of(member(json, "shape"));
    if (const auto found = json.find("tensor"); found != json.end()) {
      if (!found->is_boolean()) refuse("\"tensor\" is neither true nor false");
      tensor.is_tensor = found->get<bool>();
    }
    const auto& chunks = member(json, "chunks");
    if (!chunks.is_array()) refuse("\"chunks\" is no list");
    for (const auto& chunk : chunks) tensor.chunks.push_back(chunk_of(chunk));
    return tensor;
  }

  std::string_view file_;
};

}  // namespace

std::string write_step_index(const StepIndex& index) {
  std::string tensors;
  for (const auto& tensor : index.chunks.tensors) {
    tensors += (tensors.empty() ? "\n    " : ",\n    ") + tensor_text(tensor);
  }
  std::string names;
  for (const auto& name : index.per_rank) {
    names += (names.empty() ? "" : ", ") + format::json_string(name);
  }
  if (!names.empty()) names = format_text("  \"per_rank\": [{}],\n", names);
  return format_text(
      "{{\n  \"version\": \"1.0\",\n  \"tree\": {},\n{}  \"tensors\": [{}\n  ]\n}}\n",
      format::json_string(index.skeleton), names, tensors);
}

StepIndex read_step_index(std::string_view text, std::vector<std::string> files,
                          std::string_view file) {
  return Reader(file).read(text, std::move(files));
}

}  // namespace understudy::ranks
