// Ranks as forked processes, which exchange through socket pairs.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "understudy/peers.h"

namespace understudy::fakes {

/// One end of a pair: sends and receives numbered messages as far as the kernel takes and has them.
class PeerSocket {
 public:
  explicit PeerSocket(int fd) : fd_(fd) {}

  int fd() const { return fd_; }
  bool is_gone() const { return is_gone_; }
  bool has_to_send() const { return !is_gone_ && !outgoing_.empty(); }

  void give(std::uint64_t number, const std::string& message) {
    const std::uint64_t frame[] = {number, message.size()};
    outgoing_.append(reinterpret_cast<const char*>(frame), sizeof frame);
    outgoing_ += message;
  }

  void send_some() {
    while (has_to_send()) {
      const auto sent = send(fd_, outgoing_.data(), outgoing_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) return;
      if (sent < 0) {
        is_gone_ = true;  // what it had sent may still be read
        return;
      }
      outgoing_.erase(0, static_cast<std::size_t>(sent));
    }
  }

  void receive_some() {
    char bytes[65'536];
    for (;;) {
      const auto got = recv(fd_, bytes, sizeof bytes, MSG_DONTWAIT);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) break;
      if (got <= 0) {
        is_gone_ = true;
        break;
      }
      incoming_.append(bytes, static_cast<std::size_t>(got));
    }
    std::uint64_t frame[2];
    while (incoming_.size() >= sizeof frame) {
      std::memcpy(frame, incoming_.data(), sizeof frame);
      if (incoming_.size() - sizeof frame < frame[1]) break;
      messages_[frame[0]] = incoming_.substr(sizeof frame, frame[1]);
      incoming_.erase(0, sizeof frame + frame[1]);
    }
  }

  /// The message of that number; forgets earlier ones, which have come too late.
  std::optional<std::string> find(std::uint64_t number) {
    messages_.erase(messages_.begin(), messages_.lower_bound(number));
    const auto found = messages_.find(number);
    if (found == messages_.end()) return {};
    return found->second;
  }

 private:
  const int fd_;
  bool is_gone_ = false;
  std::string outgoing_;
  std::string incoming_;
  std::map<std::uint64_t, std::string> messages_;
};

class ForkedPeers final : public Peers {
 public:
  /// `fds`: for each lane and rank; that of this rank is not used.
  ForkedPeers(int rank, const std::vector<std::vector<int>>& fds) : rank_(rank) {
    for (const auto& lane : fds) {
      auto& sockets = lanes_.emplace_back();
      for (const auto fd : lane) sockets.emplace_back(fd);
    }
  }

  int rank() const override { return rank_; }
  int count() const override { return static_cast<int>(lanes_[0].size()); }

  std::vector<std::optional<std::string>> exchange(const Exchange& which,
                                                   const std::string& mine) override {
    auto& sockets = lanes_[static_cast<std::size_t>(which.lane)];
    std::vector<std::optional<std::string>> messages(sockets.size());
    messages[static_cast<std::size_t>(rank_)] = mine;
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      if (!messages[i]) sockets[i].give(which.number, mine);
    }
    for (;;) {
      std::vector<pollfd> waiting;
      for (std::size_t i = 0; i < sockets.size(); ++i) {
        if (static_cast<int>(i) == rank_) continue;
        sockets[i].send_some();
        sockets[i].receive_some();
        if (!messages[i]) messages[i] = sockets[i].find(which.number);
        const bool is_wanted =
            which.want == Want::all || (which.want == Want::first_rank && i == 0);
        const bool is_due =
            !sockets[i].is_gone() && ((is_wanted && !messages[i]) || sockets[i].has_to_send());
        const short events = sockets[i].has_to_send() ? POLLIN | POLLOUT : POLLIN;
        if (is_due) waiting.push_back({sockets[i].fd(), events, 0});
      }
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(
          which.deadline - std::chrono::steady_clock::now());
      if (waiting.empty() || left.count() <= 0) return messages;
      poll(waiting.data(), waiting.size(),
           static_cast<int>(std::min<std::int64_t>(left.count(), 1'000'000)));
    }
  }

 private:
  const int rank_;
  std::vector<std::vector<PeerSocket>> lanes_;
};

/// How a rank's process has ended: its exit status, 125 after an exception, or minus the signal.
using Endings = std::vector<int>;

/// Runs `body` in a forked process for each rank. A rank whose process ends is gone for the others.
/// `started`, in this process, gets the process numbers.
inline Endings run_forked(int count, const std::function<int(Peers&)>& body,
                          const std::function<void(const std::vector<pid_t>&)>& started = {}) {
  const auto n = static_cast<std::size_t>(count);
  constexpr std::size_t kLanes = 2;
  // ends[lane][a][b]: what a has to talk to b.
  std::vector ends(kLanes, std::vector(n, std::vector(n, -1)));
  for (auto& lane : ends) {
    for (std::size_t a = 0; a < n; ++a) {
      for (std::size_t b = a + 1; b < n; ++b) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
          throw std::runtime_error("no socket pair");
        }
        lane[a][b] = pair[0];
        lane[b][a] = pair[1];
      }
    }
  }
  const auto close_all_but = [&](std::size_t kept) {
    for (auto& lane : ends) {
      for (std::size_t a = 0; a < n; ++a) {
        for (const int fd : lane[a]) {
          if (a != kept && fd >= 0) close(fd);
        }
      }
    }
  };
  std::vector<pid_t> processes;
  std::cout.flush();
  for (std::size_t rank = 0; rank < n; ++rank) {
    const pid_t child = fork();
    if (child == 0) {
      int result = 125;
      try {
        close_all_but(rank);
        std::vector<std::vector<int>> own;
        for (auto& lane : ends) own.push_back(lane[rank]);
        ForkedPeers peers(static_cast<int>(rank), own);
        result = body(peers);
      } catch (const std::exception& error) {
        std::cerr << "rank " << rank << ": " << error.what() << std::endl;
      }
      _exit(result);
    }
    processes.push_back(child);
  }
  close_all_but(n);
  if (started) started(processes);
  Endings endings;
  for (const auto process : processes) {
    int status = 0;
    while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
    }
    endings.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  }
  return endings;
}

}  // namespace understudy::fakes
