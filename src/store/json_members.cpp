#include "store/json_members.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "format/safetensors.h"

namespace understudy::store {

namespace {

using Json = nlohmann::json;

// Values nest 500 deep at most; user metadata lies a little deeper. More is no
// manifest, and would only cost memory.
constexpr std::size_t kMaxDepth = 512;

/// Writes what it hears as compact JSON, cut at the members of the outermost
/// object.
class Splitter final : public nlohmann::json_sax<Json> {
 public:
  std::vector<std::pair<std::string, std::string>> members;
  std::string problem;

  bool null() override { return value("null"); }
  bool boolean(bool is_true) override { return value(is_true ? "true" : "false"); }
  bool number_integer(number_integer_t number) override { return value(std::to_string(number)); }
  bool number_unsigned(number_unsigned_t number) override { return value(std::to_string(number)); }
  bool number_float(number_float_t, const string_t& digits) override { return value(digits); }
  bool string(string_t& text) override {
    std::string quoted;
    format::append_json_string(quoted, text);
    return value(quoted);
  }
  bool binary(binary_t&) override { return refuse("binary"); }  // JSON has none

  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool end_object() override { return close('}'); }
  bool end_array() override { return close(']'); }

  bool key(string_t& key) override {
    Level& level = levels_.back();
    if (!level.keys.insert(key).second) return refuse("the key \"" + key + "\" twice");
    if (levels_.size() == 1) {
      members.emplace_back(key, "");
    } else {
      separate(level);
      format::append_json_string(members.back().second, key);
      members.back().second += ':';
    }
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    return refuse(error.what());
  }

 private:
  struct Level {
    bool is_object = false;
    bool is_empty = true;
    std::set<std::string> keys;  // sorted: a file may choose keys that collide
  };

  bool refuse(std::string why) {
    problem = std::move(why);
    return false;
  }

  void separate(Level& level) {
    if (!level.is_empty) members.back().second += ',';
    level.is_empty = false;
  }

  bool value(std::string_view text) {
    if (levels_.empty()) return refuse("no object");
    if (!levels_.back().is_object) separate(levels_.back());
    members.back().second += text;
    return true;
  }

  bool open(bool is_object) {
    if (levels_.size() == kMaxDepth) return refuse("too many brackets in brackets");
    if (!levels_.empty()) {
      value(is_object ? "{" : "[");
    } else if (!is_object) {
      return refuse("no object");
    }
    levels_.push_back({.is_object = is_object, .is_empty = true, .keys = {}});
    return true;
  }

  bool close(char bracket) {
    levels_.pop_back();
    if (!levels_.empty()) members.back().second += bracket;
    return true;
  }

  std::vector<Level> levels_;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> split_json_object(std::string_view text,
                                                                   std::string_view file) {
  Splitter splitter;
  if (!Json::sax_parse(text.begin(), text.end(), &splitter)) {
    fail(ErrorCode::corrupt, "{} is not the JSON it should be: {}", file, splitter.problem);
  }
  return std::move(splitter.members);
}

}  // namespace understudy::store
