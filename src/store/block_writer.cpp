#include "store/block_writer.h"

#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "format/hash.h"
#include "format/integrity.h"
#include "os/system.h"

namespace understudy::store {

namespace {

// Of x86-64, and of arm64 with small pages. A block has two, and is touched for
// the first time more than twice as fast in them.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
static_assert(format::kBlockNbytes % kHugePage == 0 && kHugePage % os::kDirectUnit == 0);

}  // namespace

std::span<std::byte> Scratch::get() {
  if (!memory_) {
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePage, format::kBlockNbytes)));
    if (!memory_) {
      fail(ErrorCode::no_space, "cannot write: no memory for a buffer of {} bytes",
           format::kBlockNbytes);
    }
    os::prefer_huge_pages(memory_.get(), format::kBlockNbytes);
  }
  return {memory_.get(), format::kBlockNbytes};
}

PreparedBlock prepare_block(const os::File& file, ShardSource& source, std::uint64_t index,
                            std::span<std::byte> scratch, std::uint64_t& checksum,
                            const Flow& flow) {
  const std::span<const std::byte> bytes = source.block(index, scratch);
  checksum = format::hash64(bytes);
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
