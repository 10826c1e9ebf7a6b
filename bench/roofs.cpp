// The roofs of this machine, measured without the library: what plain code gets
// out of memory and disk. Prints one JSON object of lists of seconds.
//
//     roofs copy|hash|direct_write|hashed_write|read BYTES REPETITIONS THREADS [FOLDER]
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace {

// Requests of 4 MiB, eight of them in flight: more of either was not faster on
// the disks this was tried on.
constexpr std::size_t kBlock = std::size_t{4} << 20;
constexpr int kDepth = 8;

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

/// Anonymous memory, touched once, so that what follows is warm.
class Memory {
 public:
  explicit Memory(std::size_t nbytes) : nbytes_(nbytes) {
    void* data = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) fail("mmap");
    data_ = static_cast<std::byte*>(data);
    std::memset(data_, 0x5A, nbytes);
  }
  ~Memory() { munmap(data_, nbytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::size_t nbytes_;
  std::byte* data_ = nullptr;
};

class File {
 public:
  File(const std::string& path, int flags) : path_(path), fd_(open(path.c_str(), flags, 0600)) {
    if (fd_ < 0) fail("open " + path);
  }
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_;
};

using Clock = std::chrono::steady_clock;

double seconds(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Runs `work` with the numbers 0 to `count` - 1, each in a thread of its own.
void in_threads(int count, const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(work, i);
  for (auto& thread : threads) thread.join();
}

/// Gives every block of [0, nbytes) to one of `count` threads.
void over_blocks(std::size_t nbytes, int count,
                 const std::function<void(std::size_t begin, std::size_t length)>& work) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  in_threads(count, [&](int) {
    for (;;) {
      const std::size_t begin = next.fetch_add(kBlock);
      if (begin >= nbytes || failed) return;
      try {
        work(begin, std::min(kBlock, nbytes - begin));
      } catch (const std::exception& error) {
        std::fprintf(stderr, "roofs: %s\n", error.what());
        failed = true;
      }
    }
  });
  if (failed) throw std::runtime_error("a thread failed");
}

using Transfer = ssize_t (*)(int, std::byte*, std::size_t, off_t);

void transfer_all(Transfer transfer, int fd, std::byte* data, std::size_t length, off_t offset) {
  while (length > 0) {
    const ssize_t n = transfer(fd, data, length, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("reading or writing");
    data += n;
    offset += n;
    length -= static_cast<std::size_t>(n);
  }
}

ssize_t write_some(int fd, std::byte* data, std::size_t n, off_t at) {
  return pwrite(fd, data, n, at);
}
ssize_t read_some(int fd, std::byte* data, std::size_t n, off_t at) {
  return pread(fd, data, n, at);
}

struct Request {
  std::size_t nbytes;
  int repetitions;
  int threads;
  std::string folder;
};

void print(const char* name, const std::vector<double>& times, bool is_last = false) {
  std::printf("\"%s\": [", name);
  for (std::size_t i = 0; i < times.size(); ++i) std::printf("%s%.6f", i > 0 ? ", " : "", times[i]);
  std::printf("]%s", is_last ? "" : ", ");
}

std::vector<double> repeat(int repetitions, const std::function<void()>& work) {
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) times.push_back(seconds(work));
  return times;
}

using Copy = void (*)(std::byte* to, const std::byte* from, std::size_t nbytes);

void copy_plainly(std::byte* to, const std::byte* from, std::size_t nbytes) {
  std::memcpy(to, from, nbytes);
}

/// Stores past the caches, where the processor has such stores and we know
/// them: the bus then carries no read of the destination.
void copy_streaming(std::byte* to, const std::byte* from, std::size_t nbytes) {
#ifdef __AVX2__
  for (std::size_t i = 0; i < nbytes; i += 64) {
    const auto* source = reinterpret_cast<const __m256i*>(from + i);
    auto* target = reinterpret_cast<__m256i*>(to + i);
    const __m256i low = _mm256_load_si256(source);
    const __m256i high = _mm256_load_si256(source + 1);
    _mm256_stream_si256(target, low);
    _mm256_stream_si256(target + 1, high);
  }
  _mm_sfence();
#else
  std::memcpy(to, from, nbytes);
#endif
}

/// Copies warm memory to warm memory, an equal part a thread.
void copy(const Request& r) {
  Memory from(r.nbytes);
  Memory to(r.nbytes);
  const auto with = [&](Copy copy_part) {
    return repeat(r.repetitions, [&] {
      in_threads(r.threads, [&](int i) {
        // Whole cache lines, so that streaming stores are aligned.
        const std::size_t lines = r.nbytes / 64;
        const auto n = static_cast<std::size_t>(r.threads);
        const auto part = static_cast<std::size_t>(i);
        const std::size_t begin = lines * part / n * 64;
        const std::size_t end = lines * (part + 1) / n * 64;
        copy_part(to.data() + begin, from.data() + begin, end - begin);
      });
    });
  };
  print("copy", with(copy_plainly));
  print("streaming_copy", with(copy_streaming), true);
}

void hash(const Request& r) {
  Memory memory(r.nbytes);
  std::atomic<std::uint64_t> sum{0};  // keeps the compiler from dropping the work
  const auto times = repeat(r.repetitions, [&] {
    over_blocks(r.nbytes, r.threads, [&](std::size_t begin, std::size_t length) {
      sum += XXH3_64bits(memory.data() + begin, length);
    });
  });
  print("hash", times);
  std::printf("\"sum\": %llu", static_cast<unsigned long long>(sum.load()));
}

std::string scratch_name(const Request& r) {
  return r.folder + "/roofs-" + std::to_string(getpid()) + ".bin";
}

void reserve(const File& file, std::size_t nbytes) {
  const int result = posix_fallocate(file.fd(), 0, static_cast<off_t>(nbytes));
  if (result != 0) {
    errno = result;
    fail("fallocate " + file.path());
  }
}

/// A new file each time: reserved, written past the page cache, fsync. `hashed`:
/// the thread that writes a block takes its checksum before.
void write(const Request& r, const char* name, bool hashed) {
  Memory memory(r.nbytes);
  std::vector<double> times;
  std::atomic<std::uint64_t> sum{0};  // keeps the compiler from dropping the work
  for (int i = 0; i < r.repetitions; ++i) {
    const std::string path = scratch_name(r);
    times.push_back(seconds([&] {
      File file(path, O_CREAT | O_EXCL | O_WRONLY | O_DIRECT);
      reserve(file, r.nbytes);
      over_blocks(r.nbytes, kDepth, [&](std::size_t begin, std::size_t length) {
        if (hashed) sum += XXH3_64bits(memory.data() + begin, length);
        transfer_all(write_some, file.fd(), memory.data() + begin, length,
                     static_cast<off_t>(begin));
      });
      if (fsync(file.fd()) != 0) fail("fsync " + path);
    }));
    unlink(path.c_str());
    // What the file system does about the removal is nobody else's time.
    File folder(r.folder, O_RDONLY | O_DIRECTORY);
    if (fsync(folder.fd()) != 0) fail("fsync " + r.folder);
  }
  print(name, times);
  std::printf("\"sum\": %llu", static_cast<unsigned long long>(sum.load()));
}

/// One file into warm memory: past the page cache, then out of it.
void read(const Request& r) {
  Memory memory(r.nbytes);
  const std::string path = scratch_name(r);
  {
    File file(path, O_CREAT | O_EXCL | O_WRONLY | O_DIRECT);
    over_blocks(r.nbytes, kDepth, [&](std::size_t begin, std::size_t length) {
      transfer_all(write_some, file.fd(), memory.data() + begin, length, static_cast<off_t>(begin));
    });
    if (fsync(file.fd()) != 0) fail("fsync " + path);
  }
  const auto read_whole = [&](int flags, int threads) {
    File file(path, O_RDONLY | flags);
    over_blocks(r.nbytes, threads, [&](std::size_t begin, std::size_t length) {
      transfer_all(read_some, file.fd(), memory.data() + begin, length, static_cast<off_t>(begin));
    });
  };
  print("direct_read", repeat(r.repetitions, [&] { read_whole(O_DIRECT, kDepth); }));
  read_whole(0, r.threads);  // fills the page cache
  print("cached_read", repeat(r.repetitions, [&] { read_whole(0, r.threads); }), true);
  unlink(path.c_str());
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 4) {
    std::fprintf(stderr,
                 "usage: roofs copy|hash|direct_write|hashed_write|read BYTES REPETITIONS THREADS "
                 "[FOLDER]\n");
    return 2;
  }
  Request request{std::stoull(arguments[1]), std::stoi(arguments[2]), std::stoi(arguments[3]),
                  arguments.size() > 4 ? arguments[4] : "."};
  request.nbytes = request.nbytes / kBlock * kBlock;  // direct I/O takes whole blocks
  if (request.nbytes == 0) request.nbytes = kBlock;
  std::printf("{\"nbytes\": %zu, ", request.nbytes);
  const std::string& what = arguments[0];
  if (what == "copy")
    copy(request);
  else if (what == "hash")
    hash(request);
  else if (what == "direct_write")
    write(request, "direct_write", false);
  else if (what == "hashed_write")
    write(request, "hashed_write", true);
  else if (what == "read")
    read(request);
  else
    throw std::runtime_error("no such roof: " + what);
  std::printf("}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "roofs: %s\n", error.what());
    return 1;
  }
}
