#include <system_error>

#include "base/error.h"
#include "device/cuda_context.h"
#include "os/path.h"
#include "os/probe.h"
#include "store/writer.h"
#include "understudy/inspect.h"
#include "vm/probe.h"

namespace understudy {
namespace {

Probe row(std::string name, os::Found found, std::string cost, std::string remedy = {}) {
  return {std::move(name), found.is_available, std::move(found.detail), std::move(cost),
          std::move(remedy)};
}

os::Found probe_cuda() {
  auto found = device::probe_cuda();
  return {found.is_available, std::move(found.detail)};
}

/// What a save into the folder would be written by, found as a save finds it.
os::Found find_writer(const std::filesystem::path& directory) {
  try {
    const auto name = store::name_writer(os::Directory::open(directory));
    return {!name.starts_with("buffered"), name};
  } catch (const Error& failure) {
    return {false, failure.what()};
  }
}

}  // namespace

// The ratios were measured on machines of 2 cores with a virtual disk; they say
// how much something matters, not what this machine reaches.
std::vector<Probe> doctor(const std::filesystem::path& directory) {
  os::require_path(directory);
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    fail(ErrorCode::not_found, "there is no folder '{}'", directory.string());
  }
  return {
      row("huge pages", vm::probe_huge_pages(),
          "memory that is touched for the first time fills 2.4 times slower, which a restore into "
          "new tensors feels; huge_pages=True does nothing, and overlapped captures stop the loop "
          "10 times longer",
          "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"),
      row("userfaultfd", vm::probe_userfaultfd(),
          "captures are blocking: the loop stands still for the whole copy, which is 3 times as "
          "long as protecting small pages, and 30 times as long as protecting huge ones",
          "sudo sysctl vm.unprivileged_userfaultfd=1"),
      row("io_uring", os::probe_io_uring(),
          "writing takes eight threads instead of two, at about the same speed",
          "sudo sysctl kernel.io_uring_disabled=0"),
      row("direct I/O", os::probe_direct_io(directory),
          "writing durably through the page cache is about 4 times slower"),
      row("writer", find_writer(directory),
          "saves into this folder go through the page cache, or fail"),
      row("shared memory", vm::probe_shared_memory(),
          "no image can be made: Stager and Checkpointer do not work; save_file does"),
      row("CUDA", probe_cuda(), "nothing for state that lies in host memory"),
      row("cores", os::probe_cores(),
          "copying takes about a fifth longer, and always competes with the training loop"),
      row("memory", os::probe_memory(),
          "an image costs as much memory as the state; save_file needs a few MiB only"),
  };
}

}  // namespace understudy
