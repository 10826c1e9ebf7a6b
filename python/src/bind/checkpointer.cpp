#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <mutex>
#include <set>

#include "bind/bindings.h"
#include "bind/docs.h"
#include "bind/options.h"
#include "bind/peers.h"
#include "bind/rename.h"
#include "bind/results.h"
#include "bind/run_log.h"
#include "build/assign.h"
#include "build/build.h"
#include "build/loadable.h"
#include "core/errors.h"
#include "core/gil.h"
#include "core/refs.h"
#include "core/waiting.h"
#include "understudy/process.h"
#include "walk/take_state.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

// A resume needs something to write into.
void require_target(nb::handle state) {
  const bool is_container = PyDict_Check(state.ptr()) || PyList_Check(state.ptr());
  if (!is_container && !has_state(state)) {
    fail(ErrorCode::invalid,
         "resume needs a dict, a list or an object with state_dict() and load_state_dict(), not a "
         "{}",
         name_of_type(state.type()));
  }
}

template <class Call>
auto without_gil(const Call& call) {
  WithoutGil no_gil;
  return call();
}

class PyCheckpointer {
 public:
  PyCheckpointer(CheckpointerOptions options, std::vector<std::string> per_rank,
                 std::shared_ptr<PyPeers> peers)
      : allow_pickle_(options.allow_pickle),
        per_rank_(std::move(per_rank)),
        peers_(std::move(peers)) {
    options.peers = peers_;
    core_ = without_gil([&] { return std::make_shared<Checkpointer>(std::move(options)); });
    log_.emplace(core_->directory());
    all().insert(this);
  }

  // Nobody will ask any more, so a failure can only be logged.
  ~PyCheckpointer() {
    all().erase(this);
    if (home_.is_here()) finish();
    WithoutGil no_gil;
    core_.reset();
  }

  // At the interpreter's exit, and at our end: waits, and logs failures.
  void finish() noexcept {
    nb::error_scope keep;
    try {
      close(/*last=*/true);
    } catch (...) {
      try {
        log_->save_failed(exception_of(std::current_exception()));
      } catch (...) {
        // No way is left to tell anybody.
      }
    }
  }

  static void finish_all() {
    Entry entry;
    // Others may end while we wait without the GIL.
    for (bool found = true; found;) {
      found = false;
      for (auto* one : all()) {
        if (!one->home_.is_here() || one->is_finished_) continue;
        one->is_finished_ = found = true;
        const auto keep = nb::find(*one);
        one->finish();
        break;
      }
    }
  }

  nb::object save(nb::handle step, nb::handle state, nb::handle metadata, bool overwrite,
                  bool urgent) {
    Entry entry;
    require_home();
    const auto checked = step_of(step);
    const SaveOptions options{.metadata = metadata_of(metadata),
                              .overwrite = overwrite,
                              .urgent = urgent,
                              .per_rank = per_rank_in(state, per_rank_)};
    log_last();
    bool is_taken = false;
    auto ticket = telling(
        peers_.get(),
        [&] {
          return take_state(
              last_walk_, walking(), state,
              [&](const Again& again) {
                // Nothing was said to the others where it gives nothing.
                is_taken = true;
                auto found = core_->save_again(checked, again, options);
                is_taken = found.has_value();
                return found;
              },
              [&](const Value& value, std::uint64_t number) {
                is_taken = true;
                return core_->save(checked, value, options, number);
              });
        },
        [&](const Error& why) {
          if (!is_taken) core_->fail_save(checked, why);
        });
    last_ = ticket;
    last_step_ = checked;
    is_last_told_ = false;
    log_->saved_below(checked, ticket.metrics().newer_step);
    return make_ticket(std::move(ticket));
  }

  // For Preemption: the last call of save, and whom the other ranks are reached by.
  nb::object last_save() const {
    if (!last_) return nb::none();
    return nb::make_tuple(last_step_, make_ticket(*last_));
  }
  nb::object peers() const { return peers_ ? nb::borrow(peers_->object()) : nb::none(); }

  nb::object prewarm(nb::handle state) {
    Entry entry;
    require_home();
    return make_ticket(
        prewarm_for(walking(), state, [&](const Value& value) { return core_->prewarm(value); }));
  }

  PyCheckpoint restore(nb::handle step, nb::handle names, const std::string& source) {
    Entry entry;
    require_home();
    const RestoreOptions options{
        .step = optional_step_of(step), .names = names_of(names), .source = source_of(source)};
    const Checkpoint found = without_gil([&] { return core_->restore(options); });
    Builder builder({.allow_pickle = allow_pickle_});
    return {found.step, builder.build(found.state), builder.build(found.metadata), found.source,
            found.reader};
  }

  std::optional<std::int64_t> resume(nb::handle state, nb::handle step, nb::handle names,
                                     bool strict, nb::handle rename, bool convert,
                                     const std::string& on_damage, const std::string& source,
                                     bool discard_newer) {
    Entry entry;
    require_home();
    require_target(state);
    const auto from = source_of(source);
    // The library waits for them, too, but Ctrl-C would not end that.
    if (discard_newer) wait_in_slices({}, [&](auto slice) { return core_->wait(slice); });
    Walker walker(walking_for_target());
    const Value before = telling(
        peers_.get(), [&] { return walker.walk(state); },
        [&](const Error& why) { core_->fail_resume(why); });
    std::optional<Assignment> assignment;
    const ResumeOptions options{.step = optional_step_of(step),
                                .on_damage = on_damage_of(on_damage),
                                .discard_newer = discard_newer,
                                .names = names_of(names),
                                .strict = strict,
                                .rename_prefixes = prefixes_of(rename),
                                .rename = renaming_by(rename),
                                .convert = convert,
                                .per_rank = per_rank_in(state, per_rank_),
                                .source = from,
                                .prepare = [&](const Value& merged) {
                                  WithGil gil;
                                  assignment.emplace(state, before, merged, walker.classes());
                                }};
    Value after = before;
    const auto found = without_gil([&] { return core_->resume(after, options); });
    if (!found) {
      const auto other = core_->foreign_checkpoint();
      if (!other.empty()) log_->found_others(other);
      return found;
    }
    saying_overwritten([&] {
      finish_tensors(walker.take_write_backs(), walker.torch_tensors());
      assignment->apply();
    });
    return found;
  }

  std::optional<Resumed> resumed() const {
    const auto report = core_->resumed();
    if (!report) return {};
    Resumed result{report->step,      report->source,  report->reader,     {},
                   report->discarded, report->missing, report->unexpected, report->mismatched};
    for (const auto& skipped : report->skipped)
      result.skipped.emplace_back(skipped.step, skipped.reason);
    return result;
  }

  bool wait(std::optional<double> seconds) {
    Entry entry;
    require_home();
    return wait_in_slices(timeout_of(seconds), [&](auto slice) { return core_->wait(slice); });
  }

  // Waits awake for Ctrl-C; with that the checkpointer stays open. Does nothing in a forked child.
  void close(bool last = false) {
    Entry entry;
    if (!home_.is_here()) return;
    std::exception_ptr failure;
    try {
      wait_in_slices({}, [&](auto slice) { return core_->wait(slice); });
    } catch (const Error&) {
      failure = std::current_exception();
    } catch (const nb::python_error&) {
      // With the interpreter the threads end that would wait for other ranks.
      if (last && peers_) peers_->end();
      throw;
    }
    try {
      WithoutGil no_gil;
      core_->close();
    } catch (const Error&) {  // what retention left is in the log in any case
      if (!failure) failure = std::current_exception();
    }
    if (peers_ && !std::exchange(has_left_, true)) peers_->leave(/*waits=*/!last && !failure);
    is_finished_ = true;
    last_walk_.reset();
    log_last();
    if (failure) std::rethrow_exception(failure);
  }

  std::vector<std::int64_t> steps() const {
    WithoutGil no_gil;
    return core_->steps();
  }
  std::optional<std::int64_t> latest() const {
    WithoutGil no_gil;
    return core_->latest();
  }
  nb::object directory() const {
    Entry entry;
    return nb::cast(core_->directory());
  }

  // Never raises: it is for messages and debuggers.
  nb::object repr() const {
    return nb::str("Checkpointer({!r}, {}{})")
        .attr("format")(nb::str(nb::cast(directory())), steps_text(),
                        is_finished_ ? ", closed" : "");
  }

 private:
  std::string steps_text() const {
    constexpr std::size_t kShown = 5;  // the newest; a run may have thousands
    try {
      const auto all = steps();
      if (all.size() <= kShown) return fmt::format("steps=[{}]", fmt::join(all, ", "));
      return fmt::format("steps=[..., {}] ({} in all)",
                         fmt::join(all.end() - kShown, all.end(), ", "), all.size());
    } catch (const Error& error) {
      return fmt::format("steps unknown ({})", to_string(error.code()));
    }
  }

  // Before a state is walked, which runs code of the user's.
  void require_home() const { home_.require("a checkpointer"); }
  WalkOptions walking() const {
    return {
        .purpose = Purpose::disk, .allow_pickle = allow_pickle_, .takes_chunks = peers_ != nullptr};
  }
  // Those that exist. Touched under the GIL only.
  static std::set<PyCheckpointer*>& all() {
    static auto* made = new std::set<PyCheckpointer*>;
    return *made;
  }

  // What the last save has met, once it has been written.
  void log_last() {
    if (!last_ || is_last_told_) return;
    const auto metrics = last_->metrics();
    if (metrics.writer.empty()) return;  // it has not been written yet
    is_last_told_ = true;
    log_->written(metrics);
  }

  const bool allow_pickle_;
  const std::vector<std::string> per_rank_;
  std::unique_ptr<LastWalk> last_walk_;
  std::optional<Ticket<std::filesystem::path>> last_;  // of the last call of save, and its step
  std::int64_t last_step_ = -1;
  bool is_last_told_ = false;
  std::optional<RunLog> log_;
  const HomeProcess home_;
  bool is_finished_ = false;
  bool has_left_ = false;
  const std::shared_ptr<PyPeers> peers_;  // null where this process is alone
  std::shared_ptr<Checkpointer> core_;
};

}  // namespace

void bind_checkpointer(nb::module_& m) {
  bind_results(m);
  nb::class_<PyCheckpointer>(m, "Checkpointer", nb::is_weak_referenceable(), docs::kCheckpointer)
      .def(
          "__init__",
          [](PyCheckpointer* self, nb::handle directory, nb::handle keep, const std::string& memory,
             nb::handle group, double timeout, nb::handle per_rank, nb::handle survive,
             const std::string& when_no_room, const std::string& capture, int images,
             const std::string& when_busy, bool huge_pages, std::optional<int> threads,
             bool allow_pickle, const std::string& writer, nb::handle max_write_rate) {
            Entry entry;
            CheckpointerOptions options{.directory = path_of(directory),
                                        .keep = keep_of(keep),
                                        .memory = memory_of(memory),
                                        .survive = survive_of(survive),
                                        .when_no_room = when_no_room_of(when_no_room),
                                        .capture = capture_of(capture),
                                        .images = images,
                                        .when_busy = when_busy_of(when_busy),
                                        .huge_pages = huge_pages,
                                        .threads = threads.value_or(0),
                                        .allow_pickle = allow_pickle,
                                        .writer = writer_of(writer),
                                        .max_write_rate = rate_of(max_write_rate),
                                        .timeout = std::chrono::duration<double>(timeout)};
            auto names = per_rank_of(per_rank);
            auto peers = PyPeers::join(group, timeout);
            new (self) PyCheckpointer(std::move(options), std::move(names), std::move(peers));
          },
          nb::arg("directory"), nb::kw_only(), nb::arg("keep") = nb::none(),
          nb::arg("memory") = "auto", nb::arg("group") = nb::none(), nb::arg("timeout") = 600.0,
          nb::arg("per_rank") = nb::make_tuple(), nb::arg("survive") = false,
          nb::arg("when_no_room") = "error", nb::arg("capture") = "auto", nb::arg("images") = 2,
          nb::arg("when_busy") = "wait", nb::arg("huge_pages") = false,
          nb::arg("threads") = nb::none(), nb::arg("allow_pickle") = false,
          nb::arg("writer") = "auto", nb::arg("max_write_rate") = nb::none())
      .def("save", &PyCheckpointer::save, nb::arg("step").none(), nb::arg("state").none(),
           nb::kw_only(), nb::arg("metadata") = nb::none(), nb::arg("overwrite") = false,
           nb::arg("urgent") = false, docs::kSave)
      .def("prewarm", &PyCheckpointer::prewarm, nb::arg("state").none(), docs::kCheckpointerPrewarm)
      .def("restore", &PyCheckpointer::restore, nb::arg("step") = nb::none(), nb::kw_only(),
           nb::arg("names") = nb::none(), nb::arg("source") = "auto", docs::kRestore)
      .def("resume", &PyCheckpointer::resume, nb::arg("state").none(), nb::kw_only(),
           nb::arg("step") = nb::none(), nb::arg("names") = nb::none(), nb::arg("strict") = true,
           nb::arg("rename") = nb::none(), nb::arg("convert") = false,
           nb::arg("on_damage") = "error", nb::arg("source") = "auto",
           nb::arg("discard_newer") = false, docs::kResume)
      .def_prop_ro("resumed", &PyCheckpointer::resumed, "What the last resume did, or None.")
      .def("steps", &PyCheckpointer::steps, "Complete steps, ascending.")
      .def("latest", &PyCheckpointer::latest, "The newest complete step, or None.")
      .def("wait", &PyCheckpointer::wait, nb::arg("timeout") = nb::none(), docs::kWaitAll)
      .def(
          "close", [](PyCheckpointer& self) { self.close(); }, docs::kCloseCheckpointer)
      .def("__repr__", &PyCheckpointer::repr)
      .def_prop_ro("_last_save", &PyCheckpointer::last_save)
      .def_prop_ro("_peers", &PyCheckpointer::peers)
      .def_prop_ro("directory", &PyCheckpointer::directory, "The folder of the run.")
      .def("__enter__", [](nb::object self) { return self; })
      .def("__exit__", [](PyCheckpointer& self, nb::args) { self.close(); });
  // The interpreter calls it before it takes modules and threads apart.
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&PyCheckpointer::finish_all));
}

}  // namespace understudy::python
