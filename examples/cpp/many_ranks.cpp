// Several ranks, each with some rows of one matrix, save it together; others, with other rows,
// resume it. The ranks are forked processes, which talk through pipes.
//
//     many_ranks [FOLDER]
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <understudy/understudy.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using understudy::Peers;
using understudy::Tensor;
using understudy::Value;

struct Pipe {
  int read_end = -1;
  int write_end = -1;
};

/// Two lanes of a pipe for each rank, into which all others write.
using Lanes = std::array<std::vector<Pipe>, 2>;

/// What goes through a pipe: a piece of a message that the kernel takes whole or not at all, so
/// that those of several writers do not mix.
struct Frame {
  struct Header {
    std::uint64_t number;
    std::uint64_t message_nbytes;
    std::int32_t from;
    std::uint32_t nbytes;
  };
  static constexpr std::size_t kMost = PIPE_BUF - sizeof(Header);
};

class PipePeers final : public Peers {
 public:
  PipePeers(int rank, const Lanes& lanes) : rank_(rank), lanes_(lanes) {}

  int rank() const override { return rank_; }
  int count() const override { return static_cast<int>(lanes_[0].size()); }

  std::vector<std::optional<std::string>> exchange(const Exchange& which,
                                                   const std::string& mine) override {
    const auto lane = static_cast<std::size_t>(which.lane);
    auto& received = received_[lane];
    // What came too late is never asked for again.
    received.erase(received.begin(), received.lower_bound({which.number, 0}));
    Outgoing outgoing(lanes_[lane].size());
    for (int to = 0; to < count(); ++to) {
      if (to != rank_) outgoing[static_cast<std::size_t>(to)] = frames_of(which.number, mine);
    }
    for (;;) {
      send_some(lane, outgoing);
      receive_some(lane);
      std::vector<std::optional<std::string>> messages(lanes_[lane].size());
      messages[static_cast<std::size_t>(rank_)] = mine;
      bool has_all = true;
      for (int from = 0; from < count(); ++from) {
        if (from == rank_) continue;
        const auto found = received.find({which.number, from});
        const bool has_come = found != received.end() && found->second.is_whole();
        if (has_come) messages[static_cast<std::size_t>(from)] = found->second.bytes;
        const bool is_wanted =
            which.want == Want::all || (which.want == Want::first_rank && from == 0);
        if (is_wanted && !has_come) has_all = false;
      }
      const bool is_sent =
          std::all_of(outgoing.begin(), outgoing.end(), [](const auto& f) { return f.empty(); });
      if ((has_all && is_sent) || !wait(lane, outgoing, which.deadline)) return messages;
    }
  }

 private:
  struct Message {
    std::uint64_t nbytes = 0;
    std::string bytes;
    bool is_whole() const { return bytes.size() == nbytes; }
  };
  using Outgoing = std::vector<std::deque<std::string>>;

  std::deque<std::string> frames_of(std::uint64_t number, const std::string& message) const {
    std::deque<std::string> frames;
    std::size_t done = 0;
    do {
      const auto n = std::min(message.size() - done, Frame::kMost);
      const Frame::Header header{number, message.size(), rank_, static_cast<std::uint32_t>(n)};
      auto& frame = frames.emplace_back(reinterpret_cast<const char*>(&header), sizeof header);
      frame.append(message, done, n);
      done += n;
    } while (done < message.size());
    return frames;
  }

  void send_some(std::size_t lane, Outgoing& outgoing) const {
    for (std::size_t to = 0; to < outgoing.size(); ++to) {
      auto& frames = outgoing[to];
      while (!frames.empty()) {
        const auto& frame = frames.front();
        const auto n = write(lanes_[lane][to].write_end, frame.data(), frame.size());
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
          frames.clear();  // that rank is gone
        } else {
          frames.pop_front();
        }
      }
    }
  }

  void receive_some(std::size_t lane) {
    const int fd = lanes_[lane][static_cast<std::size_t>(rank_)].read_end;
    auto& bytes = incoming_[lane];
    for (;;) {
      std::array<char, 65536> buffer;
      const auto n = read(fd, buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      bytes.append(buffer.data(), static_cast<std::size_t>(n));
    }
    std::size_t done = 0;
    Frame::Header header;
    while (bytes.size() - done >= sizeof header) {
      std::memcpy(&header, bytes.data() + done, sizeof header);
      if (bytes.size() - done - sizeof header < header.nbytes) break;
      auto& message = received_[lane][{header.number, header.from}];
      message.nbytes = header.message_nbytes;
      message.bytes.append(bytes, done + sizeof header, header.nbytes);
      done += sizeof header + header.nbytes;
    }
    bytes.erase(0, done);
  }

  /// Until a pipe has or takes something. False once the deadline is over.
  bool wait(std::size_t lane, const Outgoing& outgoing,
            std::chrono::steady_clock::time_point deadline) const {
    std::vector<pollfd> fds{{lanes_[lane][static_cast<std::size_t>(rank_)].read_end, POLLIN, 0}};
    for (std::size_t to = 0; to < outgoing.size(); ++to) {
      if (!outgoing[to].empty()) fds.push_back({lanes_[lane][to].write_end, POLLOUT, 0});
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    poll(fds.data(), fds.size(), static_cast<int>(std::min<std::int64_t>(left.count(), 60'000)));
    return true;
  }

  const int rank_;
  const Lanes lanes_;
  std::array<std::string, 2> incoming_;  // by lane: pieces of frames
  // By lane, number and rank.
  std::array<std::map<std::pair<std::uint64_t, int>, Message>, 2> received_;
};

Lanes make_lanes(int count) {
  Lanes lanes;
  for (auto& lane : lanes) {
    for (int i = 0; i < count; ++i) {
      int ends[2];
      if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
      lane.push_back({ends[0], ends[1]});
    }
  }
  return lanes;
}

/// Closes what a rank, or for -1 nobody, has to read from; other writers then see who is gone.
void close_read_ends_but(int rank, const Lanes& lanes) {
  for (const auto& lane : lanes) {
    for (std::size_t i = 0; i < lane.size(); ++i) {
      if (static_cast<int>(i) != rank) close(lane[i].read_end);
    }
  }
}

/// Runs `body` as that many forked processes. True when all of them have returned 0.
bool run_ranks(int count, const std::function<int(const std::shared_ptr<Peers>&)>& body) {
  const auto lanes = make_lanes(count);
  std::vector<pid_t> processes;
  for (int rank = 0; rank < count; ++rank) {
    const pid_t process = fork();
    if (process < 0) throw std::runtime_error("no process");
    if (process > 0) {
      processes.push_back(process);
      continue;
    }
    int result = 2;
    try {
      close_read_ends_but(rank, lanes);
      result = body(std::make_shared<PipePeers>(rank, lanes));
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
    }
    std::fflush(stdout);
    _exit(result);
  }
  close_read_ends_but(-1, lanes);
  for (const auto& lane : lanes) {
    for (const auto& pipe : lane) close(pipe.write_end);
  }
  bool is_fine = true;
  for (const pid_t process : processes) {
    int status = 0;
    while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
    }
    is_fine = is_fine && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  return is_fine;
}

constexpr std::int64_t kRows = 1000;
constexpr std::int64_t kColumns = 256;
constexpr std::int64_t kStep = 7;

float weight(std::int64_t row, std::int64_t column) {
  return static_cast<float>(row) + static_cast<float>(column) / 1024.0F;
}

/// The rows of one rank of several.
struct Part {
  explicit Part(const Peers& peers)
      : first(kRows * peers.rank() / peers.count()),
        rows(kRows * (peers.rank() + 1) / peers.count() - first),
        weights(static_cast<std::size_t>(rows * kColumns)) {}

  /// The state as this rank has it: its rows of the whole matrix, and what all ranks have.
  Value state() {
    const auto mine = Tensor::borrow(weights.data(), understudy::DType::f32, {rows, kColumns});
    return Value::dict({{"weights", understudy::chunk(mine, {{kRows, kColumns}, {first, 0}})},
                        {"learning_rate", 0.1}});
  }

  /// Calls `visit(weight, row, column)` for each of its weights.
  template <class Visit>
  void each(const Visit& visit) {
    for (std::int64_t i = 0; i < rows * kColumns; ++i) {
      visit(weights[static_cast<std::size_t>(i)], first + i / kColumns, i % kColumns);
    }
  }

  std::int64_t first;
  std::int64_t rows;
  std::vector<float> weights;
};

understudy::CheckpointerOptions options_of(const std::filesystem::path& folder,
                                           const std::shared_ptr<Peers>& peers) {
  understudy::CheckpointerOptions options{.directory = folder, .keep = 3};
  options.peers = peers;
  options.timeout = std::chrono::seconds(60);
  return options;
}

int save(const std::filesystem::path& folder, const std::shared_ptr<Peers>& peers) {
  Part part(*peers);
  part.each([](float& w, std::int64_t row, std::int64_t column) { w = weight(row, column); });
  understudy::Checkpointer checkpointer(options_of(folder, peers));
  understudy::SaveOptions options;
  options.overwrite = true;  // so that the program can run twice on one folder
  const auto saved = checkpointer.save(kStep, part.state(), options).wait();
  checkpointer.close();
  if (peers->rank() == 0) std::printf("%d ranks saved %s\n", peers->count(), saved.c_str());
  return 0;
}

int resume(const std::filesystem::path& folder, const std::shared_ptr<Peers>& peers) {
  Part part(*peers);
  understudy::Checkpointer checkpointer(options_of(folder, peers));
  auto state = part.state();
  const auto step = checkpointer.resume(state);
  checkpointer.close();
  bool is_back = step == kStep;
  part.each([&](float w, std::int64_t row, std::int64_t column) {
    is_back = is_back && w == weight(row, column);
  });
  std::printf("rank %d of %d resumed step %lld: %s\n", peers->rank(), peers->count(),
              static_cast<long long>(step.value_or(-1)),
              is_back ? "every weight is back" : "the weights differ");
  return is_back ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a rank that is gone is no reason to end
  const std::filesystem::path folder = argc > 1 ? argv[1] : "many-ranks-run";
  try {
    const bool is_fine = run_ranks(3, [&](const auto& peers) { return save(folder, peers); }) &&
                         run_ranks(2, [&](const auto& peers) { return resume(folder, peers); });
    return is_fine ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
