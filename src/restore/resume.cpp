#include "restore/resume.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "os/system.h"
#include "restore/addresses.h"
#include "restore/aliasing.h"
#include "restore/arrange.h"
#include "restore/block_reader.h"
#include "restore/cut.h"
#include "restore/decode.h"
#include "understudy/loadable.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

// How tensors that the file has in C order lay in memory, by the storage that stands for them.
struct Arrangement {
  std::map<std::shared_ptr<const Storage>, value::InMemory> forms;
  Arranger arranger;
};

// Gives tensors that only stand for bytes of the file memory of their own.
class PrivateCopies {
 public:
  explicit PrivateCopies(const Addresses* file, Arrangement* arrangement = nullptr)
      : file_(file), arrangement_(arrangement) {}

  // The same tree over new storages, which are filled from `destinations`.
  Value replace(const Value& tree) {
    return value::map_leaves(tree, [this](const Value& node) {
      if (node.type() != Value::Type::tensor || !stands_for_file(node.as_tensor())) return node;
      return Value(replace(node.as_tensor())).with_kind(node.kind(), node.extra());
    });
  }

  bool stands_for_file(const Tensor& t) const { return file_ != nullptr && file_->contains(t); }

  Tensor replace(const Tensor& t) {
    if (!stands_for_file(t)) return t;
    const Tensor made(storage_for(t.storage()), t.dtype(), t.shape(), t.strides(), t.byte_offset());
    if (arrangement_ == nullptr) return made;
    const auto form = arrangement_->forms.find(t.storage());
    if (form == arrangement_->forms.end()) return made;
    return arrangement_->arranger.place(made, form->second);
  }

  std::vector<Destination> destinations() const {
    std::vector<Destination> all;
    std::uint64_t nbytes = 0;
    for (const auto& [from, to] : storages_) nbytes += to->nbytes();
    if (nbytes > 0) os::require_memory("the part of the state that is new", nbytes);
    for (const auto& [from, to] : storages_) {
      all.push_back({file_->offset(from->data()), to->nbytes(), to->data(), true});
    }
    return all;
  }

 private:
  std::shared_ptr<const Storage> storage_for(const std::shared_ptr<const Storage>& from) {
    auto& to = storages_[from];
    if (!to) to = Storage::allocate(from->nbytes());
    return to;
  }

  const Addresses* file_;  // null where all has been read
  Arrangement* arrangement_;
  std::map<std::shared_ptr<const Storage>, std::shared_ptr<const Storage>> storages_;
};

// Runs of bytes go straight to their tensors; the others (strides, tensors that share memory)
// by way of private memory.
struct Overwrite {
  std::vector<Destination> destinations;
  std::vector<transfer::TensorCopy> others;

  Overwrite(const Addresses* file, const std::vector<transfer::TensorCopy>& copies) {
    PrivateCopies own(file);
    const auto add_other = [&](const transfer::TensorCopy& c) {
      if (c.to.numel() == 0) return;
      // What does not stand for bytes of the file was made by the comparison, or read already.
      others.push_back({own.replace(c.from), c.to});
    };
    const auto groups = transfer::group_copies(copies);
    for (const auto* c : groups.runs) {
      if (c->to.numel() > 0 && own.stands_for_file(c->from)) {
        destinations.push_back({file->offset(c->from.data()), c->to.nbytes(), c->to.data(), false});
      } else {
        add_other(*c);
      }
    }
    for (const auto& group : groups.others) {
      for (const auto* c : group) add_other(*c);
    }
    for (const auto& d : own.destinations()) destinations.push_back(d);
  }
};

void require_fit(const std::string& file, const std::vector<std::string>& misfits) {
  if (misfits.empty()) return;
  fail(ErrorCode::invalid, "{} does not fit the state given, and nothing was changed: {}", file,
       fmt::join(misfits, "; "));
}

// Runs a step that changes the caller's state; a failure of ours says so.
template <class Step>
void change(const Step& step) {
  try {
    step();
  } catch (const Error& e) {
    fail(e.code(), "{}; the state given has been overwritten in part: it must not be used",
         e.what());
  }
}

// What was decoded of a step, and how what has not been read yet is read.
struct Decoded {
  Value state;
  std::string name;  ///< of the file or the step
  const Addresses* file = nullptr;
  Arrangement* arrangement = nullptr;
  BlockReader* reader = nullptr;

  void read(std::vector<Destination> destinations) const {
    if (reader != nullptr) reader->read(std::move(destinations));
  }
};

ResumeOutcome resume_decoded(const Decoded& decoded, Value& state, const ResumeRules& rules,
                             WorkerPool& copiers) {
  ResumeOutcome outcome;
  // 2. The trees, and what objects say.
  auto found =
      match(state, cut_for(state, renamed(decoded.state, state, rules.rename)), rules.match);
  if (!found.rename.empty() && !found.misfits.empty()) {
    found.misfits.push_back("some would fit with rename=" + found.rename);
  }
  require_fit(decoded.name, found.misfits);
  outcome.missing = std::move(found.missing);
  outcome.unexpected = std::move(found.unexpected);
  outcome.mismatched = std::move(found.mismatched);

  // 3. What needs memory of its own is read first: until all of that is there,
  // nothing has changed.
  PrivateCopies own(decoded.file, decoded.arrangement);
  for (auto& part : found.objects) part.saved = own.replace(part.saved);
  auto merged = own.replace(found.merged);
  for (auto& claim : found.claims) {
    if (decoded.arrangement == nullptr) continue;
    const auto& forms = decoded.arrangement->forms;
    const auto form = forms.find(claim.from.storage());
    if (form != forms.end()) claim.form = form->second;
  }
  AliasCheck aliases(std::move(found.claims));
  for (auto& claim : aliases.claims()) claim.from = own.replace(claim.from);
  if (decoded.arrangement != nullptr) {
    auto& arranger = decoded.arrangement->arranger;
    os::require_memory("the part of the state that is new", arranger.nbytes());
    decoded.read(own.destinations());
    transfer::copy_tensors(arranger.take_copies(), copiers);
  }
  require_fit(decoded.name, aliases.conflicts(copiers));
  auto overwrite = Overwrite(decoded.file, found.copies);
  for (const auto& part : found.objects) {
    if (auto* more = dynamic_cast<PartLoadable*>(part.object.get())) more->prepare(part.saved);
  }
  if (rules.before_change) rules.before_change(merged);

  // From here on the caller's state changes.
  change([&] {
    for (auto& part : found.objects) part.object->load(std::exchange(part.saved, {}));
  });
  change([&] {
    decoded.read(std::move(overwrite.destinations));
    transfer::copy_tensors(overwrite.others, copiers);
  });
  state = std::move(merged);
  return outcome;
}

}  // namespace

ResumeOutcome resume_into(const store::ShardReader& file, Value& state, const ResumeRules& rules,
                          WorkerPool& readers, WorkerPool& copiers) {
  // 1. Every byte, verified.
  BlockReader reader(file, readers);
  reader.verify_all();
  const auto how = reader.how();
  const auto& entries = file.header().entries;
  const Addresses addresses(file);
  Arrangement arrangement{{}, Arranger(file.name(), file.header().data_nbytes)};
  const EntryMemory memory{[&](std::uint32_t e) { return addresses.storage(entries[e]); },
                           [&](std::uint32_t e) { return reader.bytes(entries[e]); },
                           [&](const Tensor& t, const auto& form) {
                             arrangement.forms[t.storage()] = form;
                             return t;
                           }};
  const auto decoded = decode_state(file, memory, {}, rules.allow_pickle);
  auto outcome = resume_decoded({decoded, file.name(), &addresses, &arrangement, &reader}, state,
                                rules, copiers);
  outcome.how = how;
  return outcome;
}

ResumeOutcome resume_loaded(const Value& saved, const std::string& name, Value& state,
                            const ResumeRules& rules, WorkerPool& copiers) {
  return resume_decoded({.state = saved, .name = name}, state, rules, copiers);
}

}  // namespace understudy::restore
