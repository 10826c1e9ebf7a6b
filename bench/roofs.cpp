// The roofs of this machine, measured without the library: what plain code gets
// out of memory and disk. Prints one JSON object of lists of seconds.
//
//     roofs copy|touch|hash|direct_write|hashed_write|read BYTES REPETITIONS THREADS [FOLDER]
//     roofs serve BYTES 1 THREADS      copies when it is asked: see serve()
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

enum class Pages { small, huge };

constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Anonymous memory without pages, at a multiple of the huge page.
class FreshMemory {
 public:
  explicit FreshMemory(std::size_t nbytes, Pages pages = Pages::small)
      : nbytes_(nbytes + kHugePage) {
    base_ = mmap(nullptr, nbytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) fail("mmap");
    const auto address = reinterpret_cast<std::uintptr_t>(base_);
    data_ = static_cast<std::byte*>(base_) + (kHugePage - address % kHugePage) % kHugePage;
    if (pages == Pages::huge) madvise(data_, nbytes, MADV_HUGEPAGE);
  }
  ~FreshMemory() { munmap(base_, nbytes_); }
  FreshMemory(const FreshMemory&) = delete;
  FreshMemory& operator=(const FreshMemory&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::size_t nbytes_;
  void* base_ = nullptr;
  std::byte* data_ = nullptr;
};

/// The same, touched once, so that what follows is warm.
class Memory : public FreshMemory {
 public:
  explicit Memory(std::size_t nbytes, Pages pages = Pages::small) : FreshMemory(nbytes, pages) {
    std::memset(data(), 0x5A, nbytes);
  }
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

std::vector<double> repeat_timed(int repetitions, const std::function<double()>& timed) {
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) times.push_back(timed());
  return times;
}

std::vector<double> repeat(int repetitions, const std::function<void()>& work) {
  return repeat_timed(repetitions, [&] { return seconds(work); });
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

/// An equal part a thread.
void copy_in_threads(const Request& r, Copy copy_part, std::byte* to, const std::byte* from) {
  in_threads(r.threads, [&](int i) {
    // Whole cache lines, so that streaming stores are aligned.
    const std::size_t lines = r.nbytes / 64;
    const auto n = static_cast<std::size_t>(r.threads);
    const auto part = static_cast<std::size_t>(i);
    const std::size_t begin = lines * part / n * 64;
    const std::size_t end = lines * (part + 1) / n * 64;
    copy_part(to + begin, from + begin, end - begin);
  });
}

/// Warm memory, and warm memory of either page to copy it to.
struct Copies {
  explicit Copies(const Request& request) : r(request) {}

  double plain() const { return time(copy_plainly, small); }
  double streaming() const { return time(copy_streaming, small); }
  double streaming_into_huge() const { return time(copy_streaming, huge); }

 private:
  double time(Copy way, const Memory& to) const {
    return seconds([&] { copy_in_threads(r, way, to.data(), from.data()); });
  }

  const Request& r;
  const Memory from{r.nbytes}, small{r.nbytes}, huge{r.nbytes, Pages::huge};
};

void copy(const Request& r) {
  const Copies copies(r);
  print("copy", repeat_timed(r.repetitions, [&] { return copies.plain(); }));
  print("streaming_copy", repeat_timed(r.repetitions, [&] { return copies.streaming(); }), true);
}

/// One copy for each line that it reads, so that others can take turns with it:
/// a machine that changes its speed is then nobody's luck. Ends with its input.
void serve(const Request& r) {
  const Copies copies(r);
  char line[64];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    const std::string what(line, std::strcspn(line, "\n"));
    const double taken = what == "copy"             ? copies.plain()
                         : what == "streaming_copy" ? copies.streaming()
                                                    : copies.streaming_into_huge();
    std::printf("%.6f\n", taken);
    std::fflush(stdout);
  }
}

/// Copies warm memory to memory that nobody has touched, which is new each time.
void touch(const Request& r) {
  const Memory from(r.nbytes);
  std::vector<double> small, huge;
  for (int i = 0; i < r.repetitions; ++i) {
    const auto time = [&](Pages pages) {
      const FreshMemory to(r.nbytes, pages);
      return seconds([&] { copy_in_threads(r, copy_plainly, to.data(), from.data()); });
    };
    small.push_back(time(Pages::small));
    huge.push_back(time(Pages::huge));
  }
  print("small_pages", small);
  print("huge_pages", huge, true);
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
                 "usage: roofs copy|touch|hash|direct_write|hashed_write|read BYTES REPETITIONS "
                 "THREADS [FOLDER]\n");
    return 2;
  }
  Request request{std::stoull(arguments[1]), std::stoi(arguments[2]), std::stoi(arguments[3]),
                  arguments.size() > 4 ? arguments[4] : "."};
  request.nbytes = request.nbytes / kBlock * kBlock;  // direct I/O takes whole blocks
  if (request.nbytes == 0) request.nbytes = kBlock;
  const std::string& what = arguments[0];
  if (what == "serve") {
    serve(request);
    return 0;
  }
  std::printf("{\"nbytes\": %zu, ", request.nbytes);
  if (what == "copy")
    copy(request);
  else if (what == "touch")
    touch(request);
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
