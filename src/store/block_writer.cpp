#include "store/block_writer.h"

#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "format/hash.h"
#include "format/integrity.h"

namespace understudy::store {

std::span<std::byte> Scratch::get(const os::File& file) {
  try {
    if (!memory_) memory_.emplace(vm::Mapping::anonymous(format::kBlockNbytes));
  } catch (const Error& e) {
    fail(e.code(), "cannot write {}: {}", file.name(), e.what());
  }
  return {memory_->data(), format::kBlockNbytes};
}

PreparedBlock prepare_block(const os::File& file, ShardSource& source, std::uint64_t index,
                            std::span<std::byte> scratch, std::uint64_t& checksum,
                            const Flow& flow) {
  const std::span<const std::byte> bytes = source.block(index, scratch);
  const auto known = source.checksum(index);
  checksum = known ? *known : format::hash64(bytes);
  const std::uint64_t padded =
      file.is_direct() ? round_up<std::uint64_t>(bytes.size(), os::kDirectUnit) : bytes.size();
  if (bytes.data() == scratch.data()) {
    std::memset(scratch.data() + bytes.size(), 0, padded - bytes.size());
  }  // else the source has zeros there
  flow.pace.wait(padded);
  return {
      source.header_nbytes() + index * format::kBlockNbytes, bytes.size(), {bytes.data(), padded}};
}

}  // namespace understudy::store
