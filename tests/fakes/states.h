// States for tests, and their comparison.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "fakes/temporary_folder.h"
#include "understudy/understudy.h"
#include "value/walk.h"

namespace understudy::fakes {

/// A contiguous tensor with known contents.
inline Tensor counting(DType dtype, Dims shape, int seed) {
  auto t = Tensor::zeros(dtype, std::move(shape));
  for (std::uint64_t i = 0; i < t.nbytes(); ++i) {
    t.data()[i] =
        static_cast<std::byte>((i * 131 + i / 251 + static_cast<std::uint64_t>(seed)) % 256);
  }
  return t;
}

/// Something like a training job: weights (two tied), a view, scalars.
inline Value training_state(int seed) {
  const auto w = counting(DType::f32, {300, 70}, seed);
  const Tensor view(w.storage(), DType::f32, {70, 300}, {1, 70});
  return Value::dict({
      {"model", Value::dict({{"embed.weight", w},
                             {"head.weight", w},
                             {"transposed", view},
                             {"bias", counting(DType::bf16, {70}, seed + 1)}})},
      {"optimizer", Value::dict({{0, counting(DType::f64, {5, 5}, seed + 2)},
                                 {"lr", 0.1 * seed},
                                 {"betas", Value::tuple({0.9, 0.999})}})},
      {"step", seed},
      {"name", "run"},
      {"empty", Tensor::zeros(DType::i64, {0, 4})},
      {"scalar", counting(DType::c64, {}, seed + 3)},
  });
}

/// The elements of a tensor, dense.
inline std::string dense(const Tensor& t) {
  std::string out;
  const auto item = static_cast<std::int64_t>(item_size(t.dtype()));
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    auto* at = t.data();
    auto flat = i;
    for (std::size_t d = t.shape().size(); d-- > 0;) {
      at += flat % t.shape()[d] * t.strides()[d] * item;
      flat /= t.shape()[d];
    }
    out.append(reinterpret_cast<const char*>(at), static_cast<std::size_t>(item));
  }
  return out;
}

/// A text that is equal for equal states: structure, scalars and elements.
inline std::string fingerprint(const Value& state) {
  std::string out;
  value::walk(state, [&](const value::Path& path, const Value& node) {
    out += path.str() + "=" + std::string(to_string(node.type())) + ":";
    if (node.type() == Value::Type::tensor) {
      const auto& t = node.as_tensor();
      out += std::string(name(t.dtype()));
      for (const auto n : t.shape()) out += "," + std::to_string(n);
      out += ";" + dense(t);
    } else if (!node.is_container()) {
      value::append_key_id(out, node);
    }
    out += "\n";
    return true;
  });
  return out;
}

}  // namespace understudy::fakes
