// A Checkpointer's insides.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/task_thread.h"
#include "base/ticket.h"
#include "base/worker_pool.h"
#include "checkpointer/newest_step.h"
#include "checkpointer/rank_state.h"
#include "checkpointer/resume_run.h"
#include "checkpointer/run_folder.h"
#include "checkpointer/save_queue.h"
#include "checkpointer/survival.h"
#include "checkpointer/team.h"
#include "stage/snapshot.h"
#include "store/commit.h"
#include "understudy/checkpointer.h"

namespace understudy {

class CheckpointerState {
 public:
  explicit CheckpointerState(CheckpointerOptions given);
  ~CheckpointerState();

  // Takes the state by `capture`, which may give null: then nothing was saved.
  // `state`, if it is at hand, is looked at first.
  template <class Capture>
  std::optional<Ticket<std::filesystem::path>> save(std::int64_t step, const Value* state,
                                                    const SaveOptions& how, const Capture& capture);
  Ticket<std::uint64_t> prewarm(const Value& state);
  Checkpoint restore(const RestoreOptions& how);
  std::optional<std::int64_t> resume(Value& state, const ResumeOptions& how);
  // With other ranks. The second may give nothing: then nothing was said to them.
  Ticket<std::filesystem::path> save_with_team(std::int64_t step, const Value& state,
                                               std::uint64_t number, const SaveOptions& how);
  std::optional<Ticket<std::filesystem::path>> save_again_with_team(std::int64_t step,
                                                                    const Again& again,
                                                                    const SaveOptions& how);
  void fail_save(std::int64_t step, const std::exception& why);
  void fail_resume(const std::exception& why);
  bool has_team() const { return team_ != nullptr; }
  bool wait(Timeout timeout);
  void close();
  StagerState& stager() { return stager_; }
  void require_here() const { home_.require("a checkpointer"); }
  const RunFolder& folder() const { return folder_; }

  const CheckpointerOptions options;
  std::mutex resumed_mutex;
  std::optional<ResumeReport> resumed;

 private:
  std::shared_ptr<store::FolderLock> begin_save(std::int64_t step, bool overwrite);
  std::shared_ptr<store::FolderLock> take_lock();
  void require_open() const {  // under mutex_
    if (!is_closed_) return;
    fail(ErrorCode::closed, "the checkpointer of {} is closed", folder_.path().native());
  }
  void publish(const std::shared_ptr<SaveJob>& job);
  void persist_next();
  store::Committed persist(SaveJob& job);
  Ticket<std::filesystem::path> save_with_team(std::int64_t step, const SaveOptions& how,
                                               const std::function<void()>& take);
  store::Committed persist_with_team(SaveJob& job);
  void drop_waiting_of_all(std::int64_t urgent_step);
  std::optional<std::int64_t> chosen_step(std::optional<std::int64_t> step,
                                          std::optional<std::int64_t> below = {}) const;
  std::optional<std::int64_t> resume_with_team(Value& state, const ResumeOptions& given);
  std::optional<std::int64_t> resume_alone(Value& state, const ResumeOptions& how,
                                           const std::function<void()>& all_agree,
                                           const std::vector<ResumeReport::Skipped>& skipped);
  // With survival.
  std::vector<survive::Survivor> survivors(Source source, const std::optional<std::int64_t>& step,
                                           std::vector<ResumeReport::Skipped>& skipped);
  std::optional<Checkpoint> restore_from_memory(const RestoreOptions& how);
  std::optional<std::int64_t> resume_from_memory(Value& state, const ResumeOptions& how,
                                                 std::vector<ResumeReport::Skipped>& skipped);
  void persist_survivor(std::int64_t step);
  store::Committed persist_from_memory(SaveJob& job);
  ResumeTools resume_tools(const os::Directory& directory,
                           const std::shared_ptr<store::FolderLock>& lock,
                           const std::function<void()>& all_agree);
  std::shared_ptr<store::FolderLock> lock_to_discard(bool discard_newer);
  std::vector<std::int64_t> discard_with_team(std::int64_t step);
  void throw_unremoved();
  void throw_unseen_failure();
  std::deque<std::shared_ptr<TicketState>> tickets() {
    std::lock_guard lock(mutex_);
    return tickets_;
  }

  HomeProcess home_;
  const std::unique_ptr<Team> team_;            ///< null where there are no other ranks
  const std::unique_ptr<RankState> own_state_;  ///< with other ranks: of the call under way
  const RunFolder folder_;
  const std::unique_ptr<Survival> survival_;  ///< null where images end with the process
  StagerState stager_;
  store::Writer writer_;
  SaveQueue queue_;
  WorkerPool readers_;

  NewestStep newest_;
  std::mutex mutex_;
  bool is_closed_ = false;
  std::shared_ptr<store::FolderLock> lock_;
  std::string unremoved_;                             // by the last save's retention
  std::deque<std::shared_ptr<TicketState>> tickets_;  // that may still fail or be unseen

  TaskThread persister_{"us-persist"};  // last: its tasks use all of the above
};

}  // namespace understudy
