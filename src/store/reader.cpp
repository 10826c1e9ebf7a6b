#include "store/reader.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "format/hash.h"
#include "store/foreign.h"

namespace understudy::store {

namespace {

/// What the file is instead, if its beginning tells.
std::string name_of(const os::File& file) {
  std::vector<std::byte> beginning(
      static_cast<std::size_t>(std::min<std::uint64_t>(kBeginningNbytes, file.size())));
  file.read_at(0, beginning);
  return name_content(beginning, file.name());
}

format::Header read_header(const os::File& file, std::vector<std::byte>& bytes) {
  const std::uint64_t file_nbytes = file.size();
  std::array<std::byte, format::kPrefixNbytes> prefix;
  const auto there = std::span(prefix).first(
      static_cast<std::size_t>(std::min<std::uint64_t>(prefix.size(), file_nbytes)));
  file.read_at(0, there);
  bytes.resize(format::read_header_nbytes(there, file_nbytes, file.name()));
  file.read_at(0, bytes);
  return format::read_header(bytes, file_nbytes, file.name());
}

/// " (tensor "w" and 3 more)": the entries with bytes in [begin, end).
std::string entries_in(const format::Header& header, std::uint64_t begin, std::uint64_t end) {
  // Ascending by begin without holes: the first that ends behind `begin`.
  const auto first = std::ranges::partition_point(
      header.entries, [&](const format::Entry& entry) { return entry.end <= begin; });
  const auto behind = std::partition_point(
      first, header.entries.end(), [&](const format::Entry& entry) { return entry.begin < end; });
  if (first == behind) return {};
  const auto more = behind - first - 1;
  return more == 0 ? fmt::format(" (entry \"{}\")", first->name)
                   : fmt::format(" (entry \"{}\" and {} more)", first->name, more);
}

/// What the manifest does not know of, another version or another kind of file, is
/// damage of a step.
ShardReader open_shard(const os::Directory& folder, const std::string& name) {
  os::File file = folder.open_file(name);
  try {
    return ShardReader(std::move(file));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
    throw Error(ErrorCode::corrupt, error.what());
  }
}

}  // namespace

ShardReader::ShardReader(const std::filesystem::path& path) : ShardReader(os::File::open(path)) {}

ShardReader::ShardReader(os::File file) : name_(file.name()), file_(std::move(file)) {
  std::vector<std::byte> bytes;
  try {
    header_ = read_header(file_, bytes);
  } catch (const Error& error) {
    const std::string what = error.code() == ErrorCode::corrupt ? name_of(file_) : "";
    if (what.empty()) throw;
    fail(ErrorCode::unsupported, "{} is no safetensors file: it is {}", name_, what);
  }
  integrity_ = format::read_integrity(bytes, header_, name_);
  if (integrity_ && integrity_->checksums.size() != format::block_count(header_.data_nbytes)) {
    fail(ErrorCode::corrupt, "{} has {} checksums for {} blocks", name_,
         integrity_->checksums.size(), format::block_count(header_.data_nbytes));
  }
}

std::uint64_t ShardReader::block_nbytes(std::uint64_t index) const {
  return std::min(format::kBlockNbytes, header_.data_nbytes - index * format::kBlockNbytes);
}

void ShardReader::read_block(std::uint64_t index, std::span<std::byte> out, bool verify) const {
  const auto bytes = out.first(static_cast<std::size_t>(block_nbytes(index)));
  file_.read_at(header_.header_nbytes + index * format::kBlockNbytes, bytes);
  if (verify && integrity_) check_block(index, format::hash64(bytes));
}

void ShardReader::check_block(std::uint64_t index, std::uint64_t hash) const {
  if (!integrity_ || hash == integrity_->checksums[index]) return;
  const std::uint64_t begin = index * format::kBlockNbytes, end = begin + block_nbytes(index);
  fail(ErrorCode::corrupt, "{} is damaged: bytes {} to {}{} are not what was written", name_,
       header_.header_nbytes + begin, header_.header_nbytes + end, entries_in(header_, begin, end));
}

ShardReader open_step(const StepFolder& step) {
  if (!step.is_complete()) {
    fail(step.code, "{} {}: {}", step.path.native(),
         step.code == ErrorCode::corrupt ? "is damaged" : "cannot be read", step.problem);
  }
  if (step.manifest->files.size() != 1) {
    fail(ErrorCode::unsupported, "{} has {} files; this build reads steps of one file",
         step.path.native(), step.manifest->files.size());
  }
  const ManifestFile& file = step.manifest->files.front();
  ShardReader reader = open_shard(*step.folder, file.name);
  if (reader.file_nbytes() != file.nbytes) {
    fail(ErrorCode::corrupt, "{} has {} bytes where the manifest says {}", reader.name(),
         reader.file_nbytes(), file.nbytes);
  }
  if (!reader.integrity() || reader.integrity()->digest != file.digest) {
    fail(ErrorCode::corrupt, "{} is not the file that the manifest names: its digest is another",
         reader.name());
  }
  return reader;
}

}  // namespace understudy::store
