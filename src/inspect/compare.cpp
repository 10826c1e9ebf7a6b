#include "inspect/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>

#include "inspect/spread.h"
#include "understudy/inspect.h"
#include "value/walk.h"

namespace understudy::inspect {
namespace {

using value::Path;

bool is_same_bits(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

bool is_same_pickle(const Opaque& a, const Opaque& b) {
  if (!a.pickle || !b.pickle) return !a.pickle && !b.pickle;
  return *a.pickle == *b.pickle;
}

/// For leaves of one type that are not tensors.
bool is_same_leaf(const Value& a, const Value& b) {
  switch (a.type()) {
    case Value::Type::boolean: return a.as_boolean() == b.as_boolean();
    case Value::Type::integer: return a.as_integer() == b.as_integer();
    case Value::Type::floating: return is_same_bits(a.as_floating(), b.as_floating());
    case Value::Type::complex:
      return is_same_bits(a.as_complex().real(), b.as_complex().real()) &&
             is_same_bits(a.as_complex().imag(), b.as_complex().imag());
    case Value::Type::text: return a.as_text() == b.as_text();
    case Value::Type::bytes: return a.as_bytes() == b.as_bytes();
    case Value::Type::opaque:
      return a.as_opaque().type_name == b.as_opaque().type_name &&
             is_same_pickle(a.as_opaque(), b.as_opaque());
    default: return true;
  }
}

bool is_set(const Value& v) {
  return v.kind() == Value::Kind::set || v.kind() == Value::Kind::frozen_set;
}

/// Tensors and objects have no token.
bool has_tensors(const Value& v) {
  if (v.type() == Value::Type::tensor || v.type() == Value::Type::opaque) return true;
  if (v.type() != Value::Type::list && v.type() != Value::Type::tuple) return false;
  return std::ranges::any_of(v.items(), has_tensors);
}

/// A text that two hashable values have in common exactly when they are the
/// same: for keys, and for members of sets, which have no order.
std::string token(const Value& v);

/// The tokens of a sequence; a set's in an order that only depends on them.
std::vector<std::string> tokens(const Value& sequence) {
  std::vector<std::string> all;
  all.reserve(sequence.items().size());
  for (const auto& item : sequence.items()) all.push_back(token(item));
  if (is_set(sequence)) std::sort(all.begin(), all.end());
  return all;
}

std::string token(const Value& v) {
  std::string text;
  switch (v.type()) {
    case Value::Type::floating:
      text = fmt::to_string(std::bit_cast<std::uint64_t>(v.as_floating()));
      break;
    case Value::Type::complex:
      text = token(v.as_complex().real()) + token(v.as_complex().imag());
      break;
    case Value::Type::text: text = v.as_text(); break;
    case Value::Type::bytes: text = v.as_bytes(); break;
    case Value::Type::list:
    case Value::Type::tuple: text = fmt::format("{}", fmt::join(tokens(v), "")); break;
    case Value::Type::dict:  // a typed key
      for (const auto& [name, field] : v.pairs()) text += token(name) + token(field);
      break;
    default: text = brief(v); break;
  }
  // The length keeps neighbours apart.
  return fmt::format("{}/{}/{}:{}{};", static_cast<int>(v.type()), static_cast<int>(v.kind()),
                     text.size(), text, v.extra().is_none() ? "" : token(v.extra()));
}

class Comparison {
 public:
  Comparison(const Value& a, const Gather& gather_a, const Gather& gather_b)
      : gather_a_(gather_a), gather_b_(gather_b), spread_(a) {}

  std::vector<Difference> run(const Value& a, const Value& b) {
    nodes({}, a, b);
    compare_aliasing(matched_, differences_);
    return std::move(differences_);
  }

 private:
  void report(const Path& path, std::string what) {
    differences_.push_back({path.str(), std::move(what)});
  }

  void report_values(const Path& path, const Value& a, const Value& b) {
    report(path, fmt::format("{} in the first, {} in the second", brief(a), brief(b)));
  }

  void nodes(const Path& path, const Value& a, const Value& b) {
    if (a.type() != b.type() || a.kind() != b.kind() || typed_name(a) != typed_name(b)) {
      report_kinds(path, a, b);
      return;
    }
    switch (a.type()) {
      case Value::Type::tensor: tensors(path, a, b); break;
      case Value::Type::dict: dicts(path, a, b); break;
      case Value::Type::list:
      case Value::Type::tuple: sequences(path, a, b); break;
      default: leaves(path, a, b); break;
    }
    if (!a.extra().is_none() || !b.extra().is_none()) {
      static const Value kExtra("(attributes)");
      nodes({&path, &kExtra, -1}, a.extra(), b.extra());
    }
  }

  void report_kinds(const Path& path, const Value& a, const Value& b) {
    const auto one = [](const Value& v) {
      if (v.kind() == Value::Kind::typed) return brief(v);
      return fmt::format(
          "{} ({})", brief(v),
          v.kind() == Value::Kind::plain ? to_string(v.type()) : to_string(v.kind()));
    };
    report(path, fmt::format("{} in the first, {} in the second", one(a), one(b)));
  }

  void leaves(const Path& path, const Value& a, const Value& b) {
    if (is_same_leaf(a, b)) return;
    if (brief(a) == brief(b)) {
      report(path, fmt::format("{} in both, with other contents", brief(a)));
    } else {
      report_values(path, a, b);
    }
  }

  void tensors(const Path& path, const Value& a, const Value& b) {
    const auto& x = a.as_tensor();
    const auto& y = b.as_tensor();
    if (x.dtype() == y.dtype() && x.shape() == y.shape()) spread_.take(x.nbytes(), path.str());
    if (auto what = compare_tensors(x, gather_a_, y, gather_b_); !what.empty()) {
      report(path, std::move(what));
    }
    matched_.push_back({path.str(), &a.as_tensor(), &b.as_tensor()});
  }

  void dicts(const Path& path, const Value& a, const Value& b) {
    std::map<std::string, const Value*> in_b;  // sorted: keys may be chosen to collide
    for (const auto& [key, child] : b.pairs()) in_b.emplace(token(key), &child);
    bool has_same_keys = a.pairs().size() == b.pairs().size();
    for (const auto& [key, child] : a.pairs()) {
      const Path here{&path, &key, -1};
      if (const auto other = in_b.extract(token(key))) {
        nodes(here, child, *other.mapped());
      } else {
        report(here, fmt::format("only in the first: {}", brief(child)));
        has_same_keys = false;
      }
    }
    for (const auto& [key, child] : b.pairs()) {
      if (in_b.contains(token(key))) {
        report({&path, &key, -1}, fmt::format("only in the second: {}", brief(child)));
      }
    }
    if (a.kind() == Value::Kind::ordered_dict && has_same_keys) order(path, a, b);
  }

  void order(const Path& path, const Value& a, const Value& b) {
    const auto is_same = [](const Value::Pair& x, const Value::Pair& y) {
      return token(x.first) == token(y.first);
    };
    if (!std::ranges::equal(a.pairs(), b.pairs(), is_same)) {
      report(path, "the same keys in another order");
    }
  }

  void sequences(const Path& path, const Value& a, const Value& b) {
    const bool is_by_token =
        std::ranges::all_of(a.items(), is_simple) && std::ranges::all_of(b.items(), is_simple);
    if (is_by_token || (is_set(a) && !has_tensors(a) && !has_tensors(b))) {
      scalars(path, a, b);
      return;
    }
    if (a.items().size() != b.items().size()) {
      report(path, fmt::format("{} items in the first, {} in the second", a.items().size(),
                               b.items().size()));
    }
    const auto n = std::min(a.items().size(), b.items().size());
    for (std::size_t i = 0; i < n; ++i) {
      nodes({&path, nullptr, static_cast<std::int64_t>(i)}, a.items()[i], b.items()[i]);
    }
  }

  /// One difference for a whole list of numbers or texts, or for a set, however
  /// long.
  void scalars(const Path& path, const Value& a, const Value& b) {
    auto tokens_a = tokens(a), tokens_b = tokens(b);
    if (tokens_a == tokens_b) return;
    std::string what;
    if (tokens_a.size() != tokens_b.size()) {
      what =
          fmt::format("{} items in the first, {} in the second", tokens_a.size(), tokens_b.size());
    } else if (is_set(a)) {
      what = fmt::format("{} items in both, with other values", tokens_a.size());
    } else {
      std::size_t differing = 0, first = 0;
      for (std::size_t i = tokens_a.size(); i-- > 0;) {
        if (tokens_a[i] == tokens_b[i]) continue;
        ++differing;
        first = i;
      }
      what = fmt::format(
          "{} of {} items differ, the first at {}: {} in the first, {} in the second", differing,
          tokens_a.size(), first, brief(a.items()[first]), brief(b.items()[first]));
    }
    report(path, std::move(what));
  }

  const Gather& gather_a_;
  const Gather& gather_b_;
  SpreadLimit spread_;
  std::vector<Difference> differences_;
  std::vector<MatchedTensors> matched_;
};

}  // namespace

std::vector<Difference> compare(const Value& a, const Value& b, const Gather& gather_a,
                                const Gather& gather_b) {
  return Comparison(a, gather_a, gather_b).run(a, b);
}

}  // namespace understudy::inspect
