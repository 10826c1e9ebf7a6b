#include "inspect/plain_file.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "format/integrity.h"
#include "format/layout.h"

namespace understudy::inspect {
namespace {

std::vector<std::uint64_t> entry_shape(const PlainTensor& plain) {
  const auto& row = info(plain.tensor.dtype());
  if (!row.is_exact) {
    fail(ErrorCode::unsupported, "'{}' has the type {}, which a plain safetensors file lacks",
         plain.name, row.name);
  }
  std::vector<std::uint64_t> shape(plain.tensor.shape().begin(), plain.tensor.shape().end());
  if (row.components > 1) {
    if (shape.empty()) shape.push_back(1);
    shape.back() *= static_cast<std::uint64_t>(row.components);
  }
  return shape;
}

std::vector<std::byte> padded_header(const std::string& json, const std::string& what) {
  const auto nbytes =
      round_up<std::uint64_t>(format::kPrefixNbytes + json.size(), format::kAlignment);
  if (nbytes > format::kMaxWrittenHeaderNbytes) {
    fail(ErrorCode::unsupported, "the header of '{}' would have {} bytes, above the limit of {}",
         what, nbytes, format::kMaxWrittenHeaderNbytes);
  }
  std::vector<std::byte> header(nbytes, std::byte{' '});
  const auto length = nbytes - format::kPrefixNbytes;
  for (std::size_t i = 0; i < format::kPrefixNbytes; ++i) {
    header[i] = static_cast<std::byte>(length >> (8 * i));
  }
  std::memcpy(header.data() + format::kPrefixNbytes, json.data(), json.size());
  return header;
}

}  // namespace

PlainFile::PlainFile(std::vector<PlainTensor> tensors,
                     std::vector<std::pair<std::string, std::string>> metadata,
                     const std::string& what, Gather gather)
    : gather_(std::move(gather)), tensors_(std::move(tensors)) {
  std::ranges::sort(tensors_, [](const PlainTensor& a, const PlainTensor& b) {
    const auto size_a = item_size(a.tensor.dtype()), size_b = item_size(b.tensor.dtype());
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
  for (const auto& plain : tensors_) {
    const auto begin = data_nbytes_;
    data_nbytes_ += plain.tensor.nbytes();
    entries_.push_back({plain.name, std::string(info(plain.tensor.dtype()).safetensors),
                        entry_shape(plain), begin, data_nbytes_});
  }
  header_ = padded_header(format::write_header_json(entries_, metadata), what);
}

std::span<const std::byte> PlainFile::block(std::uint64_t index, std::span<std::byte> scratch) {
  const auto begin = index * format::kBlockNbytes;
  const auto end = std::min(begin + format::kBlockNbytes, data_nbytes_);
  // The first entry that reaches into the block.
  auto entry = std::ranges::upper_bound(entries_, begin, {}, &format::Entry::end);
  for (; entry != entries_.end() && entry->begin < end; ++entry) {
    const auto from = std::max(begin, entry->begin), to = std::min(end, entry->end);
    gather_(tensors_[static_cast<std::size_t>(entry - entries_.begin())].tensor,
            from - entry->begin, scratch.subspan(from - begin, to - from));
  }
  return scratch.first(end - begin);
}

std::vector<std::byte> PlainFile::seal(std::span<const std::uint64_t>, std::string& digest) {
  digest.clear();  // a plain file has none
  return header_;
}

}  // namespace understudy::inspect
