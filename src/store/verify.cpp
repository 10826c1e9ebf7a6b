#include "store/verify.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <tuple>

#include "base/error.h"
#include "base/worker_pool.h"
#include "format/hash.h"
#include "format/integrity.h"
#include "os/system.h"
#include "store/look.h"
#include "store/reader.h"
#include "store/writer.h"
#include "understudy/text.h"

namespace understudy::store {

namespace {

/// What is found, by several threads.
class Findings {
 public:
  explicit Findings(const OnProgress& progress) : progress_(progress) {}

  void add_total(std::uint64_t nbytes) { total_ += nbytes; }
  void add_done(std::uint64_t nbytes) {
    const std::lock_guard guard(mutex_);
    done_ += nbytes;
    if (progress_) progress_(done_, total_);
  }
  void add(const std::filesystem::path& file, std::uint64_t offset, std::string what) {
    const std::lock_guard guard(mutex_);
    result_.damage.push_back({file, offset, printable(what)});
  }
  void has_no_checksums() { result_.has_checksums = false; }

  bool is_whole() const { return result_.damage.empty(); }

  FileCheck take() {
    std::ranges::sort(result_.damage, [](const FoundDamage& a, const FoundDamage& b) {
      return std::tie(a.file, a.offset) < std::tie(b.file, b.offset);
    });
    result_.nbytes = done_;
    return std::move(result_);
  }

 private:
  const OnProgress& progress_;
  std::mutex mutex_;
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
  FileCheck result_;
};

void check_blocks(const ShardReader& reader, const std::filesystem::path& path,
                  Findings& findings) {
  const std::uint64_t count = format::block_count(reader.header().data_nbytes);
  const auto check = [&](std::uint64_t index, std::vector<std::byte>& memory) {
    const std::uint64_t nbytes = reader.block_nbytes(index);
    memory.resize(std::max(memory.size(), static_cast<std::size_t>(nbytes)));
    try {
      reader.read_block(index, memory);
    } catch (const Error& error) {
      findings.add(path, reader.header().header_nbytes + index * format::kBlockNbytes,
                   error.what());
    }
    findings.add_done(nbytes);
  };
  if (!reader.integrity()) findings.has_no_checksums();
  const int threads = static_cast<int>(std::min<std::uint64_t>(count, kDeviceDepth));
  std::vector<std::vector<std::byte>> memory(static_cast<std::size_t>(std::max(threads, 1)));
  if (threads <= 1) {  // threads are not worth their start for one block
    for (std::uint64_t index = 0; index < count; ++index) check(index, memory[0]);
    return;
  }
  WorkerPool pool("us-verify", threads);
  pool.run(count, [&](std::uint64_t index, int worker) {
    check(index, memory[static_cast<std::size_t>(worker)]);
  });
}

/// Opens the file and checks it; damage of its header is a finding.
/// `manifest` is what the manifest says of it, or null; `is_of_step`: it has the name
/// of a step's file.
void check_shard(os::File file, const std::filesystem::path& path, const ManifestFile* manifest,
                 bool is_of_step, Findings& findings) {
  std::optional<ShardReader> reader;
  try {
    reader.emplace(std::move(file));
  } catch (const Error& error) {
    // In a step another version, or another kind of file, is damage too.
    const bool is_damage = error.code() == ErrorCode::corrupt ||
                           (is_of_step && error.code() == ErrorCode::unsupported);
    if (!is_damage) throw;
    findings.add(path, 0, error.what());
    return;
  }
  if (manifest && (!reader->integrity() || reader->integrity()->digest != manifest->digest)) {
    findings.add(path, 0,
                 path.native() + " is not the file that the manifest names: its digest is another");
  }
  findings.add_done(reader->header().header_nbytes);
  check_blocks(*reader, path, findings);
}

/// A file to be read, and what the manifest says of it (or null).
struct Shard {
  std::filesystem::path path;
  const ManifestFile* manifest;
  bool is_index = false;
};

/// Its digest is all that the index needs: who reads it looks at what it says.
void check_index(const os::Directory& folder, const Shard& index, Findings& findings) {
  try {
    // Its size was looked at before; the manifest's alone would be any number.
    os::require_memory("the index of a step", index.manifest->nbytes);
    std::vector<std::byte> text(index.manifest->nbytes);
    folder.open_file(index.path.filename()).read_at(0, text);
    if (format::hash128_hex(text) != index.manifest->digest) {
      findings.add(index.path, 0,
                   index.path.native() + " is damaged: its digest is not the manifest's");
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::no_space) throw;
    findings.add(index.path, 0, error.what());
  }
  findings.add_done(index.manifest->nbytes);
}

/// What can be seen of the files without reading them is found here; the rest
/// of them is returned.
std::vector<Shard> look_at_files(const StepFolder& step, Findings& findings) {
  const os::Directory& folder = *step.folder;
  const ManifestFile* const index =
      step.manifest && step.manifest->index ? &*step.manifest->index : nullptr;
  std::vector<Shard> shards;
  const auto look = [&](const std::string& name, const ManifestFile* manifest) {
    const auto path = step.path / name;
    try {
      const std::uint64_t nbytes = folder.open_file(name).size();
      if (manifest && nbytes != manifest->nbytes) {
        return findings.add(path, std::min(nbytes, manifest->nbytes),
                            fmt::format("{} has {} bytes where the manifest says {}", path.native(),
                                        nbytes, manifest->nbytes));
      }
      findings.add_total(nbytes);
      shards.push_back({path, manifest, index != nullptr && manifest == index});
    } catch (const Error& error) {
      findings.add(path, 0, error.what());
    }
  };

  const std::vector<std::string> names = folder.list();
  std::set<std::string> extra(names.begin(), names.end());
  extra.erase(std::string(kManifestName));
  if (!step.manifest) {
    // The shards still know their own checksums.
    std::erase_if(extra, [](const std::string& name) { return !name.ends_with(".safetensors"); });
    for (const std::string& name : extra) look(name, nullptr);
    return shards;
  }
  for (const ManifestFile& file : step.manifest->files) {
    extra.erase(file.name);
    look(file.name, &file);
  }
  if (index != nullptr) {
    extra.erase(index->name);
    look(index->name, index);
  }
  for (const std::string& name : extra) {
    findings.add(step.path / name, 0, (step.path / name).native() + " is not a file of this step");
  }
  return shards;
}

}  // namespace

FileCheck verify_file(const std::filesystem::path& path, const OnProgress& progress) {
  Findings findings(progress);
  os::File file = os::File::open(path);
  findings.add_total(file.size());
  check_shard(std::move(file), path, nullptr, /*is_of_step=*/false, findings);
  return findings.take();
}

FileCheck verify_step(const StepFolder& step, const OnProgress& progress) {
  Findings findings(progress);
  if (!step.is_complete() && step.code != ErrorCode::corrupt) {
    fail(step.code, "{} cannot be verified: {}", step.path.native(), step.problem);
  }
  const std::vector<Shard> shards = look_at_files(step, findings);
  // A problem that the files do not show is the manifest's own.
  if (!step.is_complete() && (!step.manifest || findings.is_whole())) {
    findings.add(step.path / kManifestName, 0, step.problem);
  }
  for (const Shard& shard : shards) {
    if (shard.is_index) {
      check_index(*step.folder, shard, findings);
      continue;
    }
    check_shard(step.folder->open_file(shard.path.filename()), shard.path, shard.manifest,
                /*is_of_step=*/true, findings);
  }
  return findings.take();
}

FileCheck verify_step(const std::filesystem::path& step_path, const OnProgress& progress) {
  return verify_step(look_at_step(step_path), progress);
}

}  // namespace understudy::store
