// Steps 1 to 3 of the commit protocol (docs/commit.md) for one file.
#include "store/writer.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/worker_pool.h"
#include "format/hash.h"
#include "format/integrity.h"

namespace understudy::store {

namespace {

// What direct I/O wants of memory, offsets and lengths. The header is a
// multiple of it, so blocks begin on one.
constexpr std::uint64_t kUnit = 4096;

struct FreeMemory {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};

/// One block of memory for a worker, from the first time it is asked for. Only
/// what is filled takes real memory.
class Scratch {
 public:
  std::span<std::byte> get() {
    if (!memory_) {
      memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kUnit, format::kBlockNbytes)));
      if (!memory_) {
        fail(ErrorCode::no_space, "cannot write: no memory for a buffer of {} bytes",
             format::kBlockNbytes);
      }
    }
    return {memory_.get(), format::kBlockNbytes};
  }

 private:
  std::unique_ptr<std::byte, FreeMemory> memory_;
};

struct Output {
  os::File file;
  bool is_direct = false;
  std::string writer;
};

Output create_output(const os::Directory& directory, const std::string& name) {
  if (auto file = directory.create(name, /*direct=*/true)) {
    return {std::move(*file), true, "direct"};
  }
  return {std::move(*directory.create(name)), false,
          "buffered (the file system refuses direct I/O)"};
}

void add(std::atomic<std::uint64_t>* done, std::uint64_t nbytes) noexcept {
  if (done) done->fetch_add(nbytes, std::memory_order_relaxed);
}

void write_bytes(const Output& out, std::uint64_t offset, std::span<const std::byte> bytes) {
  out.file.write_at(offset, bytes);
  // So that fsync at the end finds little left to do.
  if (!out.is_direct) out.file.begin_write_back(offset, bytes.size());
}

/// Writes one block and returns its checksum.
std::uint64_t write_block(const Output& out, ShardSource& source, std::uint64_t index,
                          std::span<std::byte> scratch) {
  const std::span<const std::byte> bytes = source.block(index, scratch);
  const std::uint64_t checksum = format::hash64(bytes);
  const std::uint64_t padded =
      out.is_direct ? round_up<std::uint64_t>(bytes.size(), kUnit) : bytes.size();
  if (bytes.data() == scratch.data()) {
    std::memset(scratch.data() + bytes.size(), 0, padded - bytes.size());
  }  // else the source has zeros there
  write_bytes(out, source.header_nbytes() + index * format::kBlockNbytes, {bytes.data(), padded});
  return checksum;
}

/// By way of scratch: the header need not lie as direct I/O wants it.
void write_header(const Output& out, std::span<const std::byte> header,
                  std::span<std::byte> scratch) {
  for (std::uint64_t begin = 0; begin < header.size(); begin += scratch.size()) {
    const auto part = header.subspan(begin, std::min(scratch.size(), header.size() - begin));
    std::memcpy(scratch.data(), part.data(), part.size());
    write_bytes(out, begin, scratch.first(part.size()));
  }
}

}  // namespace

struct Writer::State {
  State(int threads, bool low_priority)
      : pool("us-write", threads, low_priority),
        scratch(static_cast<std::size_t>(pool.threads())) {}

  WorkerPool pool;
  std::vector<Scratch> scratch;  ///< one a worker
};

Writer::Writer(int threads, bool low_priority)
    : state_(std::make_unique<State>(threads > 0 ? threads : kDeviceDepth, low_priority)) {}

Writer::~Writer() = default;

Written Writer::write(const os::Directory& directory, const std::string& name, ShardSource& source,
                      std::atomic<std::uint64_t>* done, const std::function<void()>& created) {
  const std::uint64_t nbytes = source.header_nbytes() + source.data_nbytes();
  Output out = create_output(directory, name);
  if (created) created();

  // 1. Reserve, so that a full disk is known before anything is written.
  if (!out.file.reserve(nbytes)) {
    out.writer += ", space not reserved (the file system cannot)";
  }

  // 2. Write: the blocks in any order, then the header, which needs their
  // checksums. Until then the file begins with zeros and is no safetensors file.
  std::vector<std::uint64_t> checksums(format::block_count(source.data_nbytes()));
  state_->pool.run(checksums.size(), [&](std::uint64_t index, int worker) {
    const auto scratch = state_->scratch[static_cast<std::size_t>(worker)].get();
    checksums[index] = write_block(out, source, index, scratch);
    add(done, std::min(format::kBlockNbytes, source.data_nbytes() - index * format::kBlockNbytes));
  });
  Written written{.nbytes = nbytes, .digest = {}, .writer = out.writer};
  write_header(out, source.seal(checksums, written.digest), state_->scratch[0].get());
  add(done, source.header_nbytes());
  out.file.resize(nbytes);

  // 3. fsync.
  out.file.sync();
  out.file.close();
  return written;
}

}  // namespace understudy::store
