// Steps 1 to 3 of the commit protocol (docs/commit.md) for one file, and the
// choice of who carries them out.
#include "store/writer.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "format/integrity.h"
#include "os/system.h"
#include "store/block_writer.h"
#include "store/names.h"

namespace understudy::store {

namespace {

// Two threads gather and take checksums faster than the disks of today write;
// more would only take cores from the trainer.
constexpr int kRingThreads = 2;

constexpr const char* kNoDirect = "the file system refuses direct I/O";

const char* name_of(WriterChoice choice) noexcept {
  switch (choice) {
    case WriterChoice::automatic: return "auto";
    case WriterChoice::io_uring: return "io_uring";
    case WriterChoice::threads: return "threads";
    case WriterChoice::buffered: return "buffered";
  }
  return "";
}

/// A file, who writes it, and the reasons.
struct Output {
  os::File file;
  BlockWriter* blocks = nullptr;
  std::string writer;
};

/// By way of scratch: the header need not lie as direct I/O wants it.
void write_header(const os::File& file, std::span<const std::byte> header, Scratch& scratch,
                  const Flow& flow) {
  const auto room = scratch.get(file);
  for (std::uint64_t begin = 0; begin < header.size(); begin += room.size()) {
    const auto part = header.subspan(begin, std::min(room.size(), header.size() - begin));
    std::memcpy(room.data(), part.data(), part.size());
    flow.pace.wait(part.size());
    file.write_at(begin, room.first(part.size()));
    flow.add(part.size());
  }
}

}  // namespace

struct Writer::State {
  explicit State(const WriterOptions& options) : options(options), pace(options.max_rate) {}

  Output open_output(const os::Directory& directory, const std::string& name, unsigned mode = 0666);
  BlockWriter* ring();
  BlockWriter* threads();

  const WriterOptions options;
  Pace pace;
  Scratch header_scratch;
  // Made at first need.
  std::unique_ptr<BlockWriter> ring_writer;
  std::unique_ptr<BlockWriter> thread_writer;
  std::string ring_refusal;  ///< not asked again
};

BlockWriter* Writer::State::ring() {
  if (!ring_writer && ring_refusal.empty()) {
    const int threads =
        options.threads > 0 ? options.threads : std::min(kRingThreads, os::cores_of_this_rank());
    ring_writer = make_ring_writer(threads, options.low_priority, ring_refusal);
  }
  return ring_writer.get();
}

BlockWriter* Writer::State::threads() {
  if (!thread_writer) {
    const int threads =
        options.threads > 0 ? options.threads : os::share_of_this_rank(kDeviceDepth);
    thread_writer = make_thread_writer(threads, options.low_priority);
  }
  return thread_writer.get();
}

Output Writer::State::open_output(const os::Directory& directory, const std::string& name,
                                  unsigned mode) {
  const WriterChoice choice = options.choice;
  const auto refuse = [&](const std::string& why) {
    fail(ErrorCode::unsupported, "the writer '{}' cannot write to {}: {}", name_of(choice),
         directory.name(), why);
  };
  if (choice == WriterChoice::io_uring && !ring()) refuse(ring_refusal);
  if (choice != WriterChoice::buffered) {
    if (auto file = directory.create(name, /*direct=*/true, mode)) {
      if (choice == WriterChoice::threads) return {std::move(*file), threads(), "threads"};
      if (BlockWriter* writer = ring()) return {std::move(*file), writer, "io_uring"};
      return {std::move(*file), threads(), "threads; io_uring: " + ring_refusal};
    }
    if (choice != WriterChoice::automatic) refuse(kNoDirect);
  }
  std::string writer = "buffered";
  if (choice == WriterChoice::automatic) {
    writer += std::string("; io_uring, threads: ") + kNoDirect;
  }
  return {std::move(*directory.create(name, /*direct=*/false, mode)), threads(), std::move(writer)};
}

Writer::Writer(const WriterOptions& options) {
  if (options.max_rate != 0 && options.max_rate < kMinRate) {
    fail(ErrorCode::invalid, "max_write_rate must be at least {} bytes a second, not {}", kMinRate,
         options.max_rate);
  }
  state_ = std::make_unique<State>(options);
}

Writer::~Writer() = default;

Written Writer::write(const os::Directory& directory, const std::string& name, ShardSource& source,
                      std::atomic<std::uint64_t>* done, const NewFile& how) {
  const std::uint64_t nbytes = source.header_nbytes() + source.data_nbytes();
  Output out = state_->open_output(directory, name, how.mode);
  if (how.created) how.created(out.file);

  // 1. Reserve, so that a full disk is known before anything is written.
  if (!out.file.reserve(nbytes)) {
    out.writer += ", space not reserved (the file system cannot)";
  }

  // 2. Write: the blocks in any order, then the header, which needs their
  // checksums. Until then the file begins with zeros and is no safetensors file.
  std::vector<std::uint64_t> checksums(format::block_count(source.data_nbytes()));
  const Flow flow{state_->pace, done};
  try {
    out.blocks->write(out.file, source, checksums, flow);
  } catch (...) {
    // A ring that failed is not used again; the next file gets new ones.
    state_->ring_writer.reset();
    throw;
  }
  Written written{.nbytes = nbytes, .digest = {}, .writer = out.writer};
  write_header(out.file, source.seal(checksums, written.digest), state_->header_scratch, flow);
  out.file.resize(nbytes);

  // 3. fsync.
  out.file.sync();
  out.file.close();
  return written;
}

Unlimited::Unlimited(Writer& writer) : pace_(writer.state_->pace) {
  pace_.lift();
}

Unlimited::~Unlimited() {
  pace_.restore();
}

std::string name_writer(const os::Directory& directory, const WriterOptions& options) {
  const std::string name = marked_name(".understudy-probe", kTemporary);
  Writer::State state(options);
  const Output out = state.open_output(directory, name);
  directory.remove_file(name);
  return out.writer;
}

}  // namespace understudy::store
