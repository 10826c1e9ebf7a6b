#include "ranks/per_rank.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace understudy::ranks {
namespace {

bool is_one_of(const Value& key, std::span<const std::string> names) {
  return key.type() == Value::Type::text && std::ranges::find(names, key.as_text()) != names.end();
}

bool wants(const OwnParts& own, const std::string& part) {
  return own.wanted.empty() || std::ranges::any_of(own.wanted, [&](const std::string& name) {
           return name == part || name.starts_with(part + ".");
         });
}

const Value& part_of(const Value& parts, const std::string& name, int rank,
                     const std::string& source) {
  if (parts.type() == Value::Type::dict) {
    for (const auto& [key, part] : parts.pairs()) {
      if (key.type() == Value::Type::integer && key.as_integer() == rank) return part;
    }
  }
  fail(ErrorCode::corrupt, "{}: '{}', which is each rank's own, has no part of rank {}", source,
       name, rank);
}

}  // namespace

Value with_own_parts(const Value& state, std::span<const std::string> names, int rank) {
  if (names.empty()) return state;
  if (state.type() != Value::Type::dict) {
    fail(ErrorCode::invalid, "'{}' is to be each rank's own, but the state is no dict",
         names.front());
  }
  Value::Pairs pairs;
  for (const auto& [key, part] : state.pairs()) {
    pairs.emplace_back(key, is_one_of(key, names) ? Value::dict({{Value(rank), part}}) : part);
  }
  return Value::dict(std::move(pairs)).with_kind(state.kind(), state.extra());
}

Value own_parts_of(const Value& saved, std::span<const std::string> saved_names, int saved_count,
                   const OwnParts& own, const std::string& source) {
  if (saved.type() != Value::Type::dict) return saved;
  if (saved_names.empty() && (own.names.empty() || own.count == saved_count)) return saved;
  Value::Pairs pairs;
  for (const auto& [key, part] : saved.pairs()) {
    const bool is_own = is_one_of(key, saved_names);
    const bool fits = saved_count == own.count;
    if (is_own && fits) {
      pairs.emplace_back(key, part_of(part, key.as_text(), own.rank, source));
    } else if (!is_own && (fits || !is_one_of(key, own.names))) {
      pairs.emplace_back(key, part);
    } else if (own.strict && wants(own, key.as_text())) {
      fail(ErrorCode::invalid,
           "'{}' is each rank's own, and was saved by {} ranks, while there are {} now, in {}; "
           "strict=False leaves it as it is",
           key.as_text(), saved_count, own.count, source);
    }
  }
  return Value::dict(std::move(pairs)).with_kind(saved.kind(), saved.extra());
}

}  // namespace understudy::ranks
