#include "checkpointer/team.h"

#include <exception>
#include <utility>

#include "base/error.h"
#include "ranks/rank_names.h"
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
  ranks::put_number(out, call.is_busy);
  return out;
}

Team::Call decode_call(std::string_view bytes, int rank) {
  ranks::WireReader in(bytes);
  const auto how = in.text();
  const auto hash = in.text();
  const auto made_by = in.number();
  const auto is_busy = in.number();
  if (!is_busy) fail(ErrorCode::corrupt, "what rank {} said of its call makes no sense", rank);
  return {std::string(*how), std::string(*hash), *made_by, *is_busy != 0};
}

}  // namespace

Team::Team(std::shared_ptr<Peers> peers, std::chrono::duration<double> timeout)
    : peers_(checked(std::move(peers))), exchanger_(*peers_, timeout), commit_(*peers_, timeout) {}

std::optional<TeamSave> Team::agree(std::int64_t step, const std::string& how,
                                    const std::function<Prepared()>& prepare, std::string& busy) {
  const Topic topic{kCalls, next_number(), "call of save", step};
  const Topic outlines{kCalls, next_number(), "outlines", step};
  const SaveOfAll save{step, next_save_++};
  Prepared prepared;
  try {
    prepared = prepare();
  } catch (const std::exception& error) {
    exchanger_.require_all(topic, exchanger_.tell_failure(topic, error));
    throw;
  }
  const auto mine = encode({how, std::string(prepared.hash), made_by_, prepared.is_busy});
  std::vector<Call> calls;
  for (const auto& text : exchanger_.require_all(topic, exchanger_.ask(topic, mine))) {
    calls.push_back(decode_call(text, static_cast<int>(calls.size())));
  }
  const bool is_last = is_last_assignment(calls, step);
  std::vector<int> busy_ranks;
  for (std::size_t rank = 0; rank < calls.size(); ++rank) {
    if (calls[rank].is_busy) busy_ranks.push_back(static_cast<int>(rank));
  }
  if (!busy_ranks.empty()) {
    busy = ranks::name_ranks(busy_ranks);
    return {};
  }
  if (!is_last) {
    made_by_ = 0;
    std::vector<ranks::Outline> all;
    const auto texts = exchanger_.require_all(outlines, exchanger_.ask(outlines, prepared.outline));
    for (std::size_t rank = 0; rank < texts.size(); ++rank) {
      all.push_back(ranks::decode_outline(texts[rank], static_cast<int>(rank)));
    }
    assignment_ = std::make_shared<const ranks::Assignment>(ranks::assign(all));
    hashes_.clear();
    for (auto& call : calls) hashes_.push_back(std::move(call.hash));
    made_by_ = save.number;
  }
  return TeamSave{save, assignment_};
}

void Team::fail_agree(std::int64_t step, const std::exception& why) {
  const Topic topic{kCalls, next_number(), "call of save", step};
  next_number();  // of the outlines
  ++next_save_;
  exchanger_.tell_failure(topic, why, Peers::Want::none);
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

void Team::meet(const std::function<Sight()>& open) {
  const Topic name{kCalls, next_number(), "name to look for", -1};
  const Topic seen{kCalls, next_number(), "look at the folder", -1};
  const Topic still_there{kCalls, next_number(), "second look at the folder", -1};
  Sight sight;
  std::string left;
  bool sees = true;
  try {
    sight = open();
    if (is_first()) {
      left = sight.leave();
      exchanger_.ask(name, left, Peers::Want::none);
    } else {
      left = exchanger_.require_first(name, exchanger_.ask(name, "", Peers::Want::first_rank));
    }
    sees = left.empty() || sight.sees(left);
  } catch (const std::exception& error) {
    if (is_first()) exchanger_.tell_failure(name, error, Peers::Want::none);
    settle(seen, exchanger_.tell_failure(seen, error));
    throw;
  }
  const auto texts =
      exchanger_.require_all(seen, exchanger_.ask(seen, sees ? sight.folder : std::string()));
  std::vector<int> blind;
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    if (texts[rank].empty()) blind.push_back(static_cast<int>(rank));
  }
  if (blind.empty()) return;
  // Another run may have removed what was left, as it removes all leftovers.
  std::string is_there;
  if (is_first()) {
    is_there = sight.sees(left) ? "yes" : "no";
    exchanger_.ask(still_there, is_there, Peers::Want::none);
  } else {
    is_there = exchanger_.require_first(still_there,
                                        exchanger_.ask(still_there, "", Peers::Want::first_rank));
  }
  if (is_there == "no") return;
  fail(ErrorCode::io,
       "{} of rank 0 is not the folder that {} {} there: all ranks must see one folder", texts[0],
       ranks::name_ranks(blind), blind.size() == 1 ? "sees" : "see");
}

std::string Team::first_does(const std::string& what, std::int64_t step,
                             const std::function<std::string()>& act) {
  const Topic topic{kCalls, next_number(), what, step};
  if (!is_first()) {
    return exchanger_.require_first(topic, exchanger_.ask(topic, "", Peers::Want::first_rank));
  }
  std::string text;
  try {
    text = act();
  } catch (const std::exception& error) {
    exchanger_.tell_failure(topic, error, Peers::Want::none);
    throw;
  }
  exchanger_.ask(topic, text, Peers::Want::none);
  return text;
}

std::optional<std::int64_t> Team::choose_step(
    const std::string& what, const std::function<std::optional<std::int64_t>()>& choose) {
  const auto text = first_does("choice of a step for the " + what, -1, [&] {
    const auto step = choose();
    std::string said;
    ranks::put_number(said, step ? static_cast<std::uint64_t>(*step) + 1 : 0);
    return said;
  });
  const auto step = ranks::WireReader(text).number();
  if (!step) fail(ErrorCode::corrupt, "what rank 0 said of the step makes no sense");
  return *step == 0 ? std::nullopt : std::optional(static_cast<std::int64_t>(*step - 1));
}

// A failure that was told is another thing than a message that makes no sense.
void Team::settle(const Topic& topic, std::vector<ranks::Answer> answers) const {
  for (std::size_t rank = 0; rank < answers.size(); ++rank) {
    const auto& answer = answers[rank];
    if (answer.failure) {
      throw ToldFailure(*answer.failure, format_text("rank {}: {}", rank, answer.text));
    }
  }
  exchanger_.require_all(topic, std::move(answers));
}

void Team::look_then_do(const std::string& what, std::int64_t step,
                        const std::function<void(const std::function<void()>&)>& look) {
  const Topic topic{kCalls, next_number(), what, step};
  bool has_agreed = false;
  try {
    look([&] {
      has_agreed = true;
      settle(topic, exchanger_.ask(topic, ""));
    });
  } catch (const std::exception& error) {
    if (!has_agreed) settle(topic, exchanger_.tell_failure(topic, error));
    throw;
  }
}

void Team::fail_to_look(const std::string& what, const std::exception& why) {
  const auto step = choose_step(what, [&]() -> std::optional<std::int64_t> {
    const auto* error = dynamic_cast<const Error*>(&why);
    throw Error(error != nullptr ? error->code() : ErrorCode::io, why.what());
  });
  if (!step) return;  // there was nothing to look at
  exchanger_.tell_failure({kCalls, next_number(), what, *step}, why, Peers::Want::none);
}

}  // namespace understudy
