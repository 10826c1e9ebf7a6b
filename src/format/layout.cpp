// Making a layout:
// 1. One walk over the state names the tensors and finds the blobs.
// 2. The extents are ordered by descending alignment; the blobs come last. No
//    extent leaves a hole: each is a multiple of its alignment long.
// 3. Each extent becomes an entry: with the name, type and shape of the first
//    tensor that is all of it, else as raw bytes.
// 4. Each tensor becomes a view of its extent's entry, each blob an entry.
// 5. The header's capacity follows from all of these.
#include "format/layout.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <unordered_map>

#include "base/checked.h"
#include "base/error.h"
#include "format/header_writer.h"
#include "format/integrity.h"
#include "format/text.h"
#include "value/walk.h"

namespace understudy::format {
namespace {

using Metadata = std::vector<std::pair<std::string, std::string>>;

constexpr std::string_view kRawDType = "U8";
constexpr std::uint64_t kMaxCapacity = kMaxWrittenHeaderNbytes / kAlignment * kAlignment;

// What the walk finds.
struct Leaves {
  struct TensorLeaf {
    const Tensor* tensor;
    std::string path;
  };
  struct BlobLeaf {
    Blob::Type type;
    std::uint64_t nbytes;
  };
  std::vector<TensorLeaf> tensors;
  std::vector<BlobLeaf> blobs;
};

Leaves find_leaves(const Value& state) {
  Leaves leaves;
  value::walk(state, [&](const value::Path& path, const Value& node) {
    Blob::Type type;
    if (is_blob(node, type)) {
      leaves.blobs.push_back({type, blob_nbytes(node)});
      return false;
    }
    if (node.type() == Value::Type::tensor) {
      leaves.tensors.push_back({&node.as_tensor(), path.str()});
    }
    return true;
  });
  return leaves;
}

bool is_reserved(const std::string& path) {
  return path.empty() || path == "__metadata__" || path.starts_with(kReservedPrefix);
}

// Gives every entry a name of its own.
class Names {
 public:
  // `path`, or with "#2", "#3"... when it is taken, reserved or empty.
  std::string take(const std::string& path) {
    if (!is_reserved(path) && used_.emplace(path, 2).second) return path;
    auto& next = used_.emplace(path, 2).first->second;  // the number to try
    while (true) {
      auto name = format_text("{}#{}", path, next++);
      if (used_.emplace(name, 2).second) return name;
    }
  }

 private:
  std::unordered_map<std::string, std::uint64_t> used_;
};

// True when the tensor can be an entry of its own: all but the 4-bit type
// without dimensions, whose pairs a file counts in the last one.
bool can_be_entry(const Tensor& tensor) {
  return tensor.dtype() != DType::f4_e2m1_x2 || !tensor.shape().empty();
}

// The shape that an entry of the nearest file type has.
std::vector<std::uint64_t> entry_shape(const Tensor& tensor) {
  std::vector<std::uint64_t> shape(tensor.shape().begin(), tensor.shape().end());
  const auto components = static_cast<std::uint64_t>(info(tensor.dtype()).components);
  if (tensor.dtype() == DType::f4_e2m1_x2) {
    shape.back() *= components;
  } else if (components > 1) {
    shape.push_back(components);
  }
  return shape;
}

class Maker {
 public:
  Maker(const Leaves& leaves, const value::Extents& extents,
        std::span<const std::optional<value::InMemory>> in_memory)
      : leaves_(leaves), extents_(extents), in_memory_(in_memory) {}

  Layout make() {
    place_extents();
    place_blobs();
    make_views();
    layout_.data_nbytes = end_;
    return std::move(layout_);
  }

 private:
  void place_extents() {
    const auto& extents = extents_.extents;
    constexpr std::uint32_t kNobody = ~0u;
    std::vector<std::uint32_t> namer(extents.size(), kNobody);
    for (std::size_t t = extents_.placements.size(); t-- > 0;) {
      const auto& placement = extents_.placements[t];
      if (placement.covers && can_be_entry(*leaves_.tensors[t].tensor)) {
        namer[placement.extent] = static_cast<std::uint32_t>(t);
      }
    }
    std::vector<std::uint32_t> order(extents.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return extents[a].alignment > extents[b].alignment; });
    // Paths name the entries in the order of the walk, not in that of the file.
    std::vector<std::string> names(extents.size());
    for (std::size_t i = 0; i < extents.size(); ++i) {
      names[i] = namer[i] == kNobody ? format_text("{}extent.{}", kReservedPrefix, i)
                                     : names_.take(leaves_.tensors[namer[i]].path);
    }
    layout_.extent_offsets.resize(extents.size());
    entry_of_.resize(extents.size());
    layout_.entries.reserve(extents.size() + leaves_.blobs.size());
    for (const auto i : order) {
      layout_.extent_offsets[i] = end_;
      entry_of_[i] = next_entry();
      if (namer[i] == kNobody) {
        add_entry(std::move(names[i]), kRawDType, {extents[i].nbytes}, extents[i].nbytes);
      } else {
        const auto& tensor = *leaves_.tensors[namer[i]].tensor;
        add_entry(std::move(names[i]), info(tensor.dtype()).safetensors, entry_shape(tensor),
                  extents[i].nbytes);
      }
    }
  }

  void place_blobs() {
    for (std::size_t i = 0; i < leaves_.blobs.size(); ++i) {
      const auto& blob = leaves_.blobs[i];
      layout_.blob_offsets.push_back(end_);
      layout_.leaves.blobs.push_back({next_entry(), blob.type});
      add_entry(format_text("{}blob.{}", kReservedPrefix, i), kRawDType, {blob.nbytes},
                blob.nbytes);
    }
  }

  void make_views() {
    layout_.leaves.views.reserve(leaves_.tensors.size());
    for (std::size_t t = 0; t < leaves_.tensors.size(); ++t) {
      const auto& tensor = *leaves_.tensors[t].tensor;
      const auto& placement = extents_.placements[t];
      const auto entry = entry_of_[placement.extent];
      const auto& target = layout_.entries[entry];
      const bool is_entry =
          placement.covers && info(tensor.dtype()).is_exact && can_be_entry(tensor) &&
          target.dtype == info(tensor.dtype()).safetensors && target.shape == entry_shape(tensor);
      const auto& path = leaves_.tensors[t].path;
      if (is_entry && path != target.name && !is_reserved(path)) {
        layout_.tied.emplace_back(path, target.name);
      }
      layout_.leaves.views.push_back({entry, is_entry, tensor.dtype(), tensor.shape(),
                                      placement.strides, placement.byte_offset,
                                      in_memory_.empty() ? std::nullopt : in_memory_[t]});
    }
  }

  std::uint32_t next_entry() const { return static_cast<std::uint32_t>(layout_.entries.size()); }

  void add_entry(std::string name, std::string_view dtype, std::vector<std::uint64_t> shape,
                 std::uint64_t nbytes) {
    const auto end = checked_add(end_, nbytes);
    if (!end) fail(ErrorCode::unsupported, "the state's bytes overflow 64 bits");
    layout_.entries.push_back({std::move(name), std::string(dtype), std::move(shape), end_, *end});
    end_ = *end;
  }

  const Leaves& leaves_;
  const value::Extents& extents_;
  std::span<const std::optional<value::InMemory>> in_memory_;
  Names names_;
  Layout layout_;
  std::vector<std::uint32_t> entry_of_;  // by extent
  std::uint64_t end_ = 0;
};

std::uint64_t entries_json_nbytes(std::span<const Entry> entries) {
  std::string json = "}";  // of the metadata, which a comma follows
  append_entries(json, entries);
  return json.size() - 1;
}

}  // namespace

Layout make_layout(const Value& state, const value::Extents& extents, const Metadata& metadata,
                   std::span<const std::optional<value::InMemory>> in_memory) {
  refuse_metadata(metadata);
  const auto leaves = find_leaves(state);
  if (leaves.tensors.size() != extents.placements.size()) {
    fail(ErrorCode::invalid, "the state has {} tensors and the extents were made for {}",
         leaves.tensors.size(), extents.placements.size());
  }
  auto layout = Maker(leaves, extents, in_memory).make();
  layout.entries_nbytes = entries_json_nbytes(layout.entries);
  layout.header_nbytes = header_capacity(layout, encode_tree(state, layout.leaves), metadata);
  return layout;
}

std::uint64_t header_capacity(const Layout& layout, std::string_view tree,
                              const Metadata& metadata) {
  const auto tree_nbytes = json_string_nbytes(tree);
  const auto nbytes =
      sealed_header_nbytes(layout.entries_nbytes, metadata, tree_nbytes, layout.data_nbytes);
  if (nbytes > kMaxCapacity) {
    fail(
        ErrorCode::unsupported,
        "the state needs a header of {} bytes, and more than {} are not written: it has {} tensors "
        "and long leaves, and {} bytes of containers, keys and scalars",
        nbytes, kMaxCapacity, layout.entries.size(), tree_nbytes);
  }
  // Room for the tree to grow to twice its size, where the limit leaves it.
  return std::min(round_up(nbytes + tree_nbytes, kAlignment), kMaxCapacity);
}

bool fits(const Layout& layout, std::string_view tree, const Metadata& metadata) {
  return sealed_header_nbytes(layout.entries_nbytes, metadata, json_string_nbytes(tree),
                              layout.data_nbytes) <= layout.header_nbytes;
}

}  // namespace understudy::format
