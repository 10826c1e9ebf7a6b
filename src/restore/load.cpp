#include "restore/load.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "os/path.h"
#include "os/system.h"
#include "restore/arrange.h"
#include "restore/block_reader.h"
#include "restore/decode.h"
#include "restore/load_folder.h"
#include "vm/mapping.h"

namespace understudy::restore {
namespace {

// Collects the entries that a state needs, then reads them.
class Loader {
 public:
  Loader(const store::ShardReader& file, const LoadFileOptions& options, WorkerPool& readers)
      : file_(file),
        options_(options),
        readers_(readers),
        reader_(file, readers, options.verify),
        arranger_(file.name(), file.header().data_nbytes) {
    if (!options.mmap) return;
    mapping_ = std::make_shared<vm::Mapping>(
        vm::Mapping::copy_on_write(file.file().fd(), file.file_nbytes(), file.name()));
  }

  Value load() {
    const EntryMemory memory{
        [this](std::uint32_t e) { return storage(e); },
        [this](std::uint32_t e) { return reader_.bytes(entry(e)); },
        [this](const Tensor& t, const auto& form) { return arranger_.place(t, form); }};
    auto state = decode_state(file_, memory, options_.names, options_.allow_pickle);
    os::require_memory("the state", new_nbytes_ + arranger_.nbytes());
    reader_.read(std::move(destinations_));
    transfer::copy_tensors(arranger_.take_copies(), readers_);
    if (mapping_) require_whole();
    return state;
  }

  std::string how() const { return (mapping_ ? "mapped; verified by " : "") + reader_.how(); }

 private:
  const format::Entry& entry(std::uint32_t e) const { return file_.header().entries[e]; }

  std::shared_ptr<const Storage> storage(std::uint32_t e) {
    const auto nbytes = entry(e).nbytes();
    if (mapping_) {
      auto* at = mapping_->data() + file_.header().header_nbytes + entry(e).begin;
      // Other people's headers have any length: what they left unaligned is copied.
      constexpr std::uintptr_t kWidest = 8;
      const auto bits = format::dtype_bits(entry(e).dtype);
      const auto alignment = std::min<std::uintptr_t>(kWidest, std::max(1u, bits / 8));
      if (reinterpret_cast<std::uintptr_t>(at) % alignment == 0) {
        // Verified by reading: whoever touches a mapping dies when the file is cut.
        if (options_.verify && file_.integrity()) {
          destinations_.push_back({entry(e).begin, nbytes, nullptr, false});
        }
        return std::make_shared<Storage>(at, nbytes, mapping_);
      }
    }
    new_nbytes_ += nbytes;
    const auto made = Storage::allocate_for_overwrite(nbytes);
    destinations_.push_back({entry(e).begin, nbytes, made->data(), true});
    return made;
  }

  // A mapping that reaches past the end of the file would end the process later.
  void require_whole() const {
    if (const auto nbytes = file_.file().size(); nbytes < file_.file_nbytes()) {
      fail(ErrorCode::corrupt, "{} was cut while it was mapped: it has {} bytes now and had {}",
           file_.name(), nbytes, file_.file_nbytes());
    }
  }

  const store::ShardReader& file_;
  const LoadFileOptions& options_;
  WorkerPool& readers_;
  BlockReader reader_;
  Arranger arranger_;
  std::shared_ptr<vm::Mapping> mapping_;
  std::vector<Destination> destinations_;
  std::uint64_t new_nbytes_ = 0;
};

}  // namespace

Loaded load(const store::ShardReader& file, const LoadFileOptions& options, WorkerPool& readers) {
  Loader loader(file, options, readers);
  auto state = loader.load();
  return {std::move(state), loader.how()};
}

}  // namespace understudy::restore

namespace understudy {

Value load_file(const std::filesystem::path& path, const LoadFileOptions& options) {
  os::require_path(path);
  WorkerPool readers("us-read", options.threads > 0
                                    ? options.threads
                                    : os::share_of_this_rank(restore::kReadThreads));
  const auto found = os::find_file(path);
  if (found && found->type == os::FileInfo::Type::directory) {
    return restore::load_folder(path, options, readers);
  }
  return restore::load(store::ShardReader(path), options, readers).state;
}

}  // namespace understudy
