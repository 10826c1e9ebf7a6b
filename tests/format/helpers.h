// Whole files of states in memory, and states compared bit by bit.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "format/hash.h"
#include "format/integrity.h"
#include "format/layout.h"
#include "format/safetensors.h"
#include "format/tree.h"
#include "understudy/error.h"
#include "understudy/value.h"
#include "value/extents.h"
#include "value/file_form.h"
#include "value/walk.h"

namespace understudy::format::testing {

using Metadata = std::vector<std::pair<std::string, std::string>>;
using Bytes = std::vector<std::byte>;
using Kind = Value::Kind;

/// A state laid out, filled and sealed, as a writer would leave it on disk.
struct WholeFile {
  Layout layout;
  std::string tree;
  std::string digest;
  Bytes bytes;

  std::span<const std::byte> header() const { return std::span(bytes).first(layout.header_nbytes); }
};

inline void copy_runs(const value::Copy& copy, std::byte* to, std::size_t dim = 0,
                      std::int64_t from_offset = 0, std::int64_t to_offset = 0) {
  if (dim == copy.counts.size()) {
    std::memcpy(to + copy.destination + to_offset, copy.source + from_offset, copy.run_nbytes);
    return;
  }
  for (std::int64_t i = 0; i < copy.counts[dim]; ++i) {
    copy_runs(copy, to, dim + 1, from_offset + i * copy.source_strides[dim],
              to_offset + i * copy.destination_strides[dim]);
  }
}

/// With extents as they lie in memory, as in a snapshot; or each tensor as an entry, as in a file.
inline WholeFile write_whole_file(const Value& state, const Metadata& metadata = {{"format", "pt"}},
                                  bool in_file_form = false) {
  WholeFile file;
  const auto tensors = value::tensors_of(state);
  value::FileForm form{value::find_extents(tensors), {}};
  if (in_file_form) form = value::file_form(tensors, form.extents);
  const auto& extents = form.extents;
  file.layout = in_file_form ? make_layout(state, extents, metadata, form.in_memory)
                             : make_layout(state, extents, metadata);
  file.tree = encode_tree(state, file.layout.leaves);
  Bytes data(file.layout.data_nbytes);
  for (std::size_t i = 0; i < extents.extents.size(); ++i) {
    for (const auto& copy : extents.extents[i].copies) {
      copy_runs(copy, data.data() + file.layout.extent_offsets[i]);
    }
  }
  std::size_t b = 0;
  value::walk(state, [&](const value::Path&, const Value& node) {
    Blob::Type type;
    if (!is_blob(node, type)) return true;
    const auto bytes = blob_bytes(node);
    std::memcpy(data.data() + file.layout.blob_offsets[b++], bytes.data(), bytes.size());
    return false;
  });
  std::vector<std::uint64_t> checksums;
  for (std::uint64_t i = 0; i < block_count(data.size()); ++i) {
    const auto begin = i * kBlockNbytes;
    checksums.push_back(
        hash64(std::span(data).subspan(begin, std::min(kBlockNbytes, data.size() - begin))));
  }
  file.bytes = write_sealed_header(file.layout.entries, metadata, file.tree, checksums,
                                   file.layout.header_nbytes, file.digest);
  file.bytes.insert(file.bytes.end(), data.begin(), data.end());
  return file;
}

/// How the leaves of a file in memory come back, over copies of its bytes.
struct Reading {
  std::vector<std::shared_ptr<const Storage>> storages;
  TreeSource source;

  Reading(std::span<const Entry> entries, std::span<const std::byte> data) {
    for (const auto& entry : entries) {
      auto bytes = std::make_shared<Bytes>(data.begin() + static_cast<std::ptrdiff_t>(entry.begin),
                                           data.begin() + static_cast<std::ptrdiff_t>(entry.end));
      storages.push_back(std::make_shared<Storage>(bytes->data(), bytes->size(), bytes));
    }
    source.tensor = [this](const View& view) {
      return Value(
          Tensor(storages[view.entry], view.dtype, view.shape, view.strides, view.byte_offset));
    };
    source.blob = [this](std::uint32_t entry) {
      const auto& storage = *storages[entry];
      return std::string(reinterpret_cast<const char*>(storage.data()), storage.nbytes());
    };
  }
  Reading(const Reading&) = delete;
};

/// The state of a whole file of ours: every check that a reader makes.
inline Value read_whole_file(std::span<const std::byte> bytes, std::string_view file = "f") {
  const auto header_nbytes =
      read_header_nbytes(bytes.first(std::min<std::size_t>(8, bytes.size())), bytes.size(), file);
  const auto header = read_header(bytes.first(header_nbytes), bytes.size(), file);
  const auto integrity = read_integrity(bytes.first(header_nbytes), header, file);
  if (!integrity) throw Error(ErrorCode::corrupt, "not a file of ours");
  const auto data = bytes.subspan(header_nbytes);
  for (std::uint64_t i = 0; i < integrity->checksums.size(); ++i) {
    const auto begin = i * kBlockNbytes;
    const auto block =
        data.subspan(begin, std::min<std::size_t>(kBlockNbytes, data.size() - begin));
    if (hash64(block) != integrity->checksums[i]) throw Error(ErrorCode::corrupt, "a block");
  }
  Reading reading(header.entries, data);
  return decode_tree(integrity->tree, header.entries, reading.source, file);
}

inline std::string element_bytes(const Tensor& tensor) {
  std::string out;
  const auto& shape = tensor.shape();
  if (tensor.numel() == 0) return out;
  const auto item = item_size(tensor.dtype());
  Dims index(shape.size(), 0);
  while (true) {
    std::int64_t at = 0;
    for (std::size_t i = 0; i < shape.size(); ++i) at += index[i] * tensor.strides()[i];
    out.append(reinterpret_cast<const char*>(tensor.data() + at * static_cast<std::int64_t>(item)),
               item);
    std::size_t d = shape.size();
    while (d > 0 && ++index[d - 1] == shape[d - 1]) index[--d] = 0;
    if (d == 0) return out;
  }
}

/// True when both are the same to the last bit: types, kinds, extras, order,
/// and the elements of tensors (not where they lie).
inline bool is_same(const Value& a, const Value& b) {
  if (a.type() != b.type() || a.kind() != b.kind()) return false;
  if (a.extra().is_none() != b.extra().is_none()) return false;
  if (!a.extra().is_none() && !is_same(a.extra(), b.extra())) return false;
  const auto bits = [](double v) { return std::bit_cast<std::uint64_t>(v); };
  switch (a.type()) {
    case Value::Type::none: return true;
    case Value::Type::boolean: return a.as_boolean() == b.as_boolean();
    case Value::Type::integer: return a.as_integer() == b.as_integer();
    case Value::Type::floating: return bits(a.as_floating()) == bits(b.as_floating());
    case Value::Type::complex:
      return bits(a.as_complex().real()) == bits(b.as_complex().real()) &&
             bits(a.as_complex().imag()) == bits(b.as_complex().imag());
    case Value::Type::text: return a.as_text() == b.as_text();
    case Value::Type::bytes: return a.as_bytes() == b.as_bytes();
    case Value::Type::list:
    case Value::Type::tuple: return std::ranges::equal(a.items(), b.items(), is_same);
    case Value::Type::dict:
      return std::ranges::equal(a.pairs(), b.pairs(), [](const auto& x, const auto& y) {
        return is_same(x.first, y.first) && is_same(x.second, y.second);
      });
    case Value::Type::tensor: {
      const auto& x = a.as_tensor();
      const auto& y = b.as_tensor();
      return x.dtype() == y.dtype() && x.shape() == y.shape() &&
             element_bytes(x) == element_bytes(y);
    }
    case Value::Type::opaque: {
      const auto& x = a.as_opaque();
      const auto& y = b.as_opaque();
      return x.type_name == y.type_name && (x.pickle == nullptr) == (y.pickle == nullptr) &&
             (x.pickle == nullptr || *x.pickle == *y.pickle);
    }
  }
  return false;
}

/// A tensor of its own with bytes that count up from `first`.
inline Tensor counted(DType dtype, Dims shape, unsigned first = 1) {
  auto tensor = Tensor::zeros(dtype, std::move(shape));
  for (std::uint64_t i = 0; i < tensor.nbytes(); ++i) {
    tensor.data()[i] = static_cast<std::byte>(first + i);
  }
  return tensor;
}

inline Value double_of_bits(std::uint64_t bits) {
  return Value(std::bit_cast<double>(bits));
}

inline Value pickled(std::string type_name, std::string bytes) {
  return Value(Opaque{std::move(type_name), nullptr,
                      std::make_shared<const std::string>(std::move(bytes)), nullptr});
}

/// A typed value of those that have no class.
inline Value typed(const char* name, std::initializer_list<Value::Pair> fields) {
  return Value::dict(fields).with_kind(Kind::typed, Value::tuple({name}));
}

/// One node of every kind.
inline Value every_kind() {
  const auto ints = [](std::initializer_list<int> v) { return Value::Items(v.begin(), v.end()); };
  const auto dict = Value::dict({{"a", 1}, {2, "b"}});
  return Value::dict({
      {"typed", typed("datetime.date", {{"text", "2026-01-02"}})},
      {"typed with a class",
       Value::dict({{"name", "RED"}}).with_kind(Kind::typed, Value::tuple({"enum", "m", "Color"}))},
      {"big_integer", Value("-123456789012345678901234567890").with_kind(Kind::big_integer)},
      {"surrogate_text", Value::bytes("a\xED\xB2\x80").with_kind(Kind::surrogate_text)},
      {"byte_array", Value::bytes("xyz").with_kind(Kind::byte_array)},
      {"ordered_dict", dict.with_kind(Kind::ordered_dict)},
      {"ordered_dict with attributes",
       dict.with_kind(Kind::ordered_dict,
                      Value::dict({{"_metadata", Value::dict({{"", Value::dict({{"version", 1}})}})
                                                     .with_kind(Kind::ordered_dict)}}))},
      {"default_dict", dict.with_kind(Kind::default_dict, "list")},
      {"default_dict without", dict.with_kind(Kind::default_dict)},
      {"counter", dict.with_kind(Kind::counter)},
      {"simple_namespace", Value::dict({{"x", 1}}).with_kind(Kind::simple_namespace)},
      {"argparse_namespace", Value::dict({{"x", 1}}).with_kind(Kind::argparse_namespace)},
      {"deque", Value::list(ints({1, 2})).with_kind(Kind::deque, 5)},
      {"deque without", Value::list(ints({1, 2})).with_kind(Kind::deque)},
      {"set", Value::list({1, "b", Value::tuple({1, 2})}).with_kind(Kind::set)},
      {"frozen_set",
       Value::list({Value::list({1}).with_kind(Kind::frozen_set)}).with_kind(Kind::frozen_set)},
      {"named_tuple",
       Value::tuple({1, "b"}).with_kind(Kind::named_tuple, Value::tuple({"Point", "x", "y"}))},
      {"torch_size", Value::tuple(ints({3, 4})).with_kind(Kind::torch_size)},
      {"torch_dtype", Value("float32").with_kind(Kind::torch_dtype)},
      {"torch_device", Value("cuda:0").with_kind(Kind::torch_device)},
      {"numpy_scalar", Value::bytes("\x01\x02\x03\x04").with_kind(Kind::numpy_scalar, "<f4")},
      {"numpy_dtype", Value("<f4").with_kind(Kind::numpy_dtype)},
      {"path", Value("/tmp/x").with_kind(Kind::path, "PosixPath")},
      {"numpy_array", Value(counted(DType::f32, {2})).with_kind(Kind::numpy_array)},
      {"parameter", Value(counted(DType::f32, {3})).with_kind(Kind::parameter, true)},
      {"slice", Value::tuple({1, Value(), 2}).with_kind(Kind::slice)},
      {"range", Value::tuple(ints({0, 10, 2})).with_kind(Kind::range)},
      {"ellipsis", Value().with_kind(Kind::ellipsis)},
  });
}

/// One node of every type, typed keys, numbers at their ends, long leaves.
inline Value every_type() {
  Value::Items integers, floats;
  for (int i = 0; i < 200; ++i) {
    integers.push_back(Value(std::int64_t{i} * -1'000'000'007));
    floats.push_back(Value(i / 3.0));
  }
  const auto shared = counted(DType::f32, {4, 6});
  return Value::dict({
      {"none", Value()},
      {"true", true},
      {"false", false},
      {"integers", Value::list({0, -1, Value(std::numeric_limits<std::int64_t>::max()),
                                Value(std::numeric_limits<std::int64_t>::min())})},
      {"floats",
       Value::list({0.0, -0.0, 1e300, 5e-324, double_of_bits(0x7ff0000000000000),
                    double_of_bits(0xfff8000000000123), double_of_bits(0x7ff4000000000001)})},
      {"complex", Value(std::complex(1.5, std::bit_cast<double>(0x7ff8dead00000000ull)))},
      {"text", "quotes \" \\ \n \x01 " + std::string(1, '\0') + " caf\xC3\xA9 \xF0\x9F\x8E\xAD"},
      {"bytes", Value::bytes(std::string("\0\xff\x80", 3))},
      {"tuple", Value::tuple({1, Value::list({}), Value::tuple({}), Value::dict({})})},
      {"keys", Value::dict({{Value(), 1},
                            {true, 2},
                            {1, 3},
                            {1.0, 4},
                            {"1", 5},
                            {Value::bytes("1"), 6},
                            {Value(std::complex(1.0, 0.0)), 7},
                            {Value::tuple({1, "x"}), 8},
                            {"", 9},
                            {"a.b", 10}})},
      {"w", shared},
      {"tied", shared},
      {"transposed", Tensor(shared.storage(), DType::f32, {6, 4}, {1, 6})},
      {"row", Tensor(shared.storage(), DType::f32, {6}, {1}, 24)},
      {"expanded", Tensor(shared.storage(), DType::f32, {3, 6}, {0, 1}, 48)},
      {"scalar", counted(DType::f64, {})},
      {"empty", counted(DType::f32, {3, 0, 2})},
      {"pickle", pickled("m.Small", "abc")},
      {"long pickle", pickled("m.Large", std::string(2000, 'p'))},
      {"long text", std::string(5000, 't')},
      {"long bytes", Value::bytes(std::string(3000, '\xff'))},
      {"many integers", Value::list(integers)},
      {"many floats", Value::list(floats)},
  });
}

/// A tensor of every dtype.
inline Value every_dtype() {
  Value::Pairs pairs;
  for (std::size_t i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    pairs.emplace_back(std::string(name(dtype)), counted(dtype, {2, 4}, static_cast<unsigned>(i)));
    pairs.emplace_back(std::string(name(dtype)) + " 0-d", counted(dtype, {}, 7));
  }
  return Value::dict(std::move(pairs));
}

/// A file of anyone's: this JSON, then `data_nbytes` zeros.
inline Bytes file_of(std::string_view json, std::uint64_t data_nbytes = 0) {
  Bytes bytes(8 + json.size() + data_nbytes);
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(json.size() >> (8 * i));
  std::memcpy(bytes.data() + 8, json.data(), json.size());
  return bytes;
}

}  // namespace understudy::format::testing
