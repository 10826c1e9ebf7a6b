#include "ranks/exchange.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "ranks/rank_names.h"
#include "ranks/wire.h"

namespace understudy::ranks {
namespace {

// "understu", and with it the version of messages.
constexpr std::uint64_t kMark = 0x7574737265646e75;
constexpr std::uint64_t kVersion = 1;

constexpr std::uint64_t kWell = 0;  // else one more than the code of the failure
constexpr auto kLastCode = static_cast<std::uint64_t>(ErrorCode::closed);

std::string message_of(const Topic& topic, std::uint64_t status, std::string_view text) {
  std::string out;
  put_number(out, kMark);
  put_number(out, kVersion);
  put_text(out, topic.what);
  put_number(out, static_cast<std::uint64_t>(topic.step));
  put_number(out, status);
  out += text;
  return out;
}

[[noreturn]] void refuse(int rank) {
  fail(ErrorCode::corrupt, "what rank {} sent is no message of this version", rank);
}

Answer read(const std::string& message, const Topic& topic, int rank, int own_rank) {
  WireReader in(message);
  if (in.number() != kMark || in.number() != kVersion) refuse(rank);
  const auto what = in.text();
  const auto step = in.number();
  const auto status = in.number();
  if (!what || !step || !status || *status > kLastCode + 1) refuse(rank);
  const Topic theirs{topic.lane, topic.number, std::string(*what),
                     static_cast<std::int64_t>(*step)};
  if (theirs.what != topic.what || theirs.step != topic.step) {
    fail(ErrorCode::invalid,
         "rank {} is at {}, while this one, rank {}, is at {}; all ranks must make the same calls "
         "in the same order",
         rank, to_text(theirs), own_rank, to_text(topic));
  }
  Answer answer{.has_come = true, .failure = {}, .text = std::string(in.rest())};
  if (*status != kWell) answer.failure = static_cast<ErrorCode>(*status - 1);
  return answer;
}

}  // namespace

std::string to_text(const Topic& topic) {
  return topic.step < 0 ? format_text("the {}", topic.what)
                        : format_text("the {} of step {}", topic.what, topic.step);
}

std::vector<Answer> Exchanger::exchange(const Topic& topic, const std::string& message,
                                        Peers::Want want) const {
  const auto what = to_text(topic);
  const auto deadline = std::chrono::steady_clock::now() +
                        std::chrono::duration_cast<std::chrono::steady_clock::duration>(timeout_);
  const auto messages = peers_.exchange({topic.lane, topic.number, want, deadline, what}, message);
  if (messages.size() != static_cast<std::size_t>(peers_.count())) {
    fail(ErrorCode::invalid, "the exchange gave {} messages for {} ranks", messages.size(),
         peers_.count());
  }
  std::vector<Answer> answers(messages.size());
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const int rank = static_cast<int>(i);
    // What happened to come of others is theirs to say to whom it concerns.
    const bool is_wanted = want == Peers::Want::all || (want == Peers::Want::first_rank && i == 0);
    if (is_wanted && messages[i]) answers[i] = read(*messages[i], topic, rank, peers_.rank());
  }
  return answers;
}

std::vector<Answer> Exchanger::ask(const Topic& topic, std::string_view mine,
                                   Peers::Want want) const {
  return exchange(topic, message_of(topic, kWell, mine), want);
}

std::vector<Answer> Exchanger::tell_failure(const Topic& topic, const std::exception& failure,
                                            Peers::Want want) const {
  const auto* error = dynamic_cast<const Error*>(&failure);
  const auto code = error != nullptr ? error->code() : ErrorCode::io;
  const auto status = static_cast<std::uint64_t>(code) + 1;
  return exchange(topic, message_of(topic, status, failure.what()), want);
}

std::vector<std::string> Exchanger::require_all(const Topic& topic,
                                                std::vector<Answer> answers) const {
  std::vector<std::string> texts;
  std::vector<int> missing;
  for (std::size_t rank = 0; rank < answers.size(); ++rank) {
    auto& answer = answers[rank];
    if (answer.failure) fail(*answer.failure, "rank {}: {}", rank, answer.text);
    if (!answer.has_come) missing.push_back(static_cast<int>(rank));
    texts.push_back(std::move(answer.text));
  }
  if (!missing.empty()) fail_missing(topic, missing);
  return texts;
}

std::string Exchanger::require_first(const Topic& topic, std::vector<Answer> answers) const {
  answers.resize(1);
  return std::move(require_all(topic, std::move(answers)).front());
}

void Exchanger::fail_missing(const Topic& topic, const std::vector<int>& ranks) const {
  fail(ErrorCode::timeout, "{} did not come within {:g} s, or ended; waited for {}",
       name_ranks(ranks), timeout_.count(), to_text(topic));
}

}  // namespace understudy::ranks
