#include "os/file.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "base/error.h"
#include "os/calls.h"
#include "os/failure.h"
#include "os/size_signal.h"
#include "os/stat.h"
#include "os/write_progress.h"

namespace understudy::os {

File::~File() {
  if (is_open()) calls().close(fd_);
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      is_direct_(other.is_direct_),
      name_(std::move(other.name_)) {}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (is_open()) calls().close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    is_direct_ = other.is_direct_;
    name_ = std::move(other.name_);
  }
  return *this;
}

File File::open(const std::filesystem::path& path) {
  // O_NONBLOCK: a pipe would wait for a writer here; plain files ignore it.
  int fd = uninterrupted(
      [&] { return calls().open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0); });
  if (fd < 0) fail_call("open", path.native(), errno);
  File file(fd, path.native());
  if (file.info().type != FileInfo::Type::file) {
    fail(ErrorCode::invalid, "{} is not a plain file", path.native());
  }
  return file;
}

FileInfo File::info() const {
  struct stat found;
  if (uninterrupted([&] { return calls().fstat(fd_, &found); }) != 0) {
    fail_call("look at", name_, errno);
  }
  return to_file_info(found);
}

void File::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  // "Not now" is no answer for a plain file, but some file systems give it. One
  // that gives no other must not hold us for ever.
  constexpr int kMaxVainReads = 100;
  int vain_reads = 0;
  std::uint64_t done = 0;
  while (done < out.size()) {
    const auto count = uninterrupted([&] {
      return calls().pread(fd_, out.data() + done, out.size() - done,
                           static_cast<off_t>(offset + done));
    });
    if (count < 0) {
      if (errno == EAGAIN && ++vain_reads < kMaxVainReads) {
        sched_yield();
        continue;
      }
      fail_call(fmt::format("read bytes {} to {} of", offset + done, offset + out.size()), name_,
                errno);
    }
    vain_reads = 0;
    if (count == 0) {
      fail(ErrorCode::corrupt, "{} ends at byte {}; bytes {} to {} were wanted", name_,
           offset + done, offset, offset + out.size());
    }
    done += static_cast<std::uint64_t>(count);
  }
}

std::optional<File> File::reopen() const {
  const auto path = fmt::format("/proc/self/fd/{}", fd_);
  const int fd = uninterrupted(
      [&] { return calls().open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0); });
  if (fd < 0) return {};
  return File(fd, name_);
}

File File::duplicate() const {
  const int fd = uninterrupted([&] { return calls().duplicate(fd_); });
  if (fd < 0) fail_call("open a second time", name_, errno);
  return File(fd, name_);
}

bool File::is_cached(std::span<const std::uint64_t> offsets) const {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  for (const auto offset : offsets) {
    // Mapped to be asked about, never touched: nothing can fault.
    const auto at = static_cast<off_t>(offset / page * page);
    void* mapped = calls().mmap(nullptr, page, PROT_READ, MAP_SHARED, fd_, at);
    if (mapped == MAP_FAILED) return false;
    unsigned char is_there = 0;
    const int result = mincore(mapped, page, &is_there);
    calls().munmap(mapped, page);
    if (result != 0 || (is_there & 1) == 0) return false;
  }
  return true;
}

void File::write_at(std::uint64_t offset, std::span<const std::byte> bytes) const {
  const NoSizeSignal no_signal;
  WriteProgress progress(*this, offset, bytes);
  while (!progress.is_whole()) {
    const auto rest = progress.rest();
    const auto count =
        calls().pwrite(fd_, rest.data(), rest.size(), static_cast<off_t>(progress.offset()));
    progress.advance(count, errno);
  }
}

void File::begin_write_back(std::uint64_t offset, std::uint64_t nbytes) const noexcept {
  calls().sync_file_range(fd_, static_cast<off_t>(offset), static_cast<off_t>(nbytes),
                          SYNC_FILE_RANGE_WRITE);
}

void File::finish_write_back(std::uint64_t offset, std::uint64_t nbytes) const {
  const auto begin = static_cast<off_t>(offset);
  const auto length = static_cast<off_t>(nbytes);
  constexpr unsigned kAll =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  if (uninterrupted([&] { return calls().sync_file_range(fd_, begin, length, kAll); }) != 0) {
    if (errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL) return;  // fsync will do
    fail_call("write back", name_, errno);
  }
  calls().fadvise(fd_, begin, length, POSIX_FADV_DONTNEED);  // a courtesy
}

bool File::reserve(std::uint64_t nbytes) const {
  if (nbytes == 0) return true;  // the call refuses 0
  const NoSizeSignal no_signal;
  if (uninterrupted([&] { return calls().fallocate(fd_, 0, 0, static_cast<off_t>(nbytes)); }) ==
      0) {
    return true;
  }
  if (errno == EOPNOTSUPP || errno == ENOSYS) return false;
  fail_call(fmt::format("reserve {} bytes for", nbytes), name_, errno);
}

void File::resize(std::uint64_t nbytes) const {
  const NoSizeSignal no_signal;
  if (uninterrupted([&] { return calls().ftruncate(fd_, static_cast<off_t>(nbytes)); }) != 0) {
    fail_call(fmt::format("set to {} bytes", nbytes), name_, errno);
  }
}

void File::set_mode(unsigned mode) const {
  if (uninterrupted([&] { return calls().fchmod(fd_, static_cast<mode_t>(mode)); }) != 0) {
    fail_call("set the mode of", name_, errno);
  }
}

void File::sync() const {
  if (uninterrupted([&] { return calls().fsync(fd_); }) != 0) fail_call("sync", name_, errno);
}

void File::close() {
  // After EINTR the descriptor is gone on Linux; a second try could close
  // somebody else's.
  if (is_open() && calls().close(std::exchange(fd_, -1)) != 0 && errno != EINTR) {
    fail_call("close", name_, errno);
  }
}

}  // namespace understudy::os
