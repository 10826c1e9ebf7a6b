#include "checkpointer/team.h"

#include <exception>
#include <utility>

#include "base/error.h"
#include "checkpointer/rank_index.h"
#include "ranks/wire.h"

namespace understudy {
namespace {

using ranks::Topic;
constexpr auto kCalls = Peers::Lane::calls;

std::shared_ptr<Peers> checked(std::shared_ptr<Peers> peers) {
  if (peers->count() < 1 || peers->rank() < 0 || peers->rank() >= peers->count()) {
    fail(ErrorCode::invalid, "rank {} of {} cannot be", peers->rank(), peers->count());
  }
  return peers;
}

std::string encode(const Team::Call& call) {
  std::string out;
  ranks::put_text(out, call.how);
  ranks::put_text(out, call.hash);
  ranks::put_number(out, call.made_by);
  return out;
}

Team::Call decode_call(std::string_view bytes, int rank) {
  ranks::WireReader in(bytes);
  const auto how = in.text();
  const auto hash = in.text();
  const auto made_by = in.number();
  if (!made_by) fail(ErrorCode::corrupt, "what rank {} said of its call makes no sense", rank);
  return {std::string(*how), std::string(*hash), *made_by};
}

}  // namespace

Team::Team(std::shared_ptr<Peers> peers, std::chrono::duration<double> timeout)
    : peers_(checked(std::move(peers))), exchanger_(*peers_, timeout), commit_(*peers_, timeout) {}

TeamSave Team::agree(std::int64_t step, const std::string& how,
                     const std::function<ranks::StateParts()>& prepare) {
  const Topic topic{kCalls, next_number(), "call of save", step};
  const Topic outlines{kCalls, next_number(), "outlines", step};
  const SaveOfAll save{step, next_save_++};
  ranks::StateParts parts;
  std::string outline;
  try {
    parts = prepare();
    outline = ranks::encode_outline(ranks::outline_of(parts));
  } catch (const std::exception& error) {
    exchanger_.require_all(topic, exchanger_.tell_failure(topic, error));
    throw;
  }
  const auto mine = encode({how, ranks::outline_hash(outline), made_by_});
  std::vector<Call> calls;
  for (const auto& text : exchanger_.require_all(topic, exchanger_.ask(topic, mine))) {
    calls.push_back(decode_call(text, static_cast<int>(calls.size())));
  }
  if (!is_last_assignment(calls, step)) {
    made_by_ = 0;
    std::vector<ranks::Outline> all;
    const auto texts = exchanger_.require_all(outlines, exchanger_.ask(outlines, outline));
    for (std::size_t rank = 0; rank < texts.size(); ++rank) {
      all.push_back(ranks::decode_outline(texts[rank], static_cast<int>(rank)));
    }
    assignment_ = std::make_shared<const ranks::Assignment>(ranks::assign(all));
    hashes_.clear();
    for (auto& call : calls) hashes_.push_back(std::move(call.hash));
    made_by_ = save.number;
  }
  const auto rank = peers_->rank();
  return {save, ranks::shard_of(parts, *assignment_, rank), chunk_offsets(*assignment_, rank),
          index_part(parts, *assignment_, rank), assignment_};
}

// Whether all have an assignment, the same one, and their outlines are those that it is for. All
// see the same answers, and so come to the same end.
bool Team::is_last_assignment(const std::vector<Call>& calls, std::int64_t step) const {
  bool is_last = made_by_ > 0;
  for (std::size_t rank = 0; rank < calls.size(); ++rank) {
    if (calls[rank].how != calls[0].how) {
      fail(ErrorCode::invalid, "rank {} saves step {} in another way than rank 0", rank, step);
    }
    is_last = is_last && calls[rank].made_by == made_by_ && calls[rank].hash == hashes_[rank];
  }
  return is_last;
}

std::optional<std::int64_t> Team::choose_step(
    const std::string& what, const std::function<std::optional<std::int64_t>()>& choose) {
  const Topic topic{kCalls, next_number(), "choice of a step for the " + what, -1};
  if (!is_first()) {
    const auto text =
        exchanger_.require_first(topic, exchanger_.ask(topic, "", Peers::Want::first_rank));
    const auto step = ranks::WireReader(text).number();
    if (!step) fail(ErrorCode::corrupt, "what rank 0 said of the step makes no sense");
    return *step == 0 ? std::nullopt : std::optional(static_cast<std::int64_t>(*step - 1));
  }
  try {
    const auto step = choose();
    std::string text;
    ranks::put_number(text, step ? static_cast<std::uint64_t>(*step) + 1 : 0);
    exchanger_.ask(topic, text, Peers::Want::none);
    return step;
  } catch (const std::exception& error) {
    exchanger_.tell_failure(topic, error, Peers::Want::none);
    throw;
  }
}

void Team::look_then_do(const std::string& what, std::int64_t step,
                        const std::function<void(const std::function<void()>&)>& look) {
  const Topic topic{kCalls, next_number(), what, step};
  bool has_agreed = false;
  try {
    look([&] {
      has_agreed = true;
      exchanger_.require_all(topic, exchanger_.ask(topic, ""));
    });
  } catch (const std::exception& error) {
    if (!has_agreed) exchanger_.require_all(topic, exchanger_.tell_failure(topic, error));
    throw;
  }
}

}  // namespace understudy
