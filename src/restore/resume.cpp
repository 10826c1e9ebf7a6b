#include "restore/resume.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "base/error.h"
#include "os/system.h"
#include "ranks/ranges.h"
#include "restore/aliasing.h"
#include "restore/arrangement.h"
#include "restore/block_reader.h"
#include "restore/decode.h"
#include "restore/lay_over.h"
#include "restore/shard_leaves.h"
#include "restore/stored_bytes.h"
#include "understudy/loadable.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

// Gives tensors that only stand for bytes of files memory of their own.
class PrivateCopies {
 public:
  explicit PrivateCopies(const StoredBytes& bytes, Arrangement* arrangement = nullptr)
      : bytes_(bytes), arrangement_(arrangement) {}

  // The same tree over new storages, which are filled by `add_to`.
  Value replace(const Value& tree) {
    return value::map_leaves(tree, [this](const Value& node) {
      if (node.type() != Value::Type::tensor || !bytes_.has(node.as_tensor())) return node;
      return Value(replace(node.as_tensor())).with_kind(node.kind(), node.extra());
    });
  }

  Tensor replace(const Tensor& t) {
    if (!bytes_.has(t)) return t;
    const Tensor made(storage_for(t.storage()), t.dtype(), t.shape(), t.strides(), t.byte_offset());
    return arrangement_ == nullptr ? made : arrangement_->place(made, t.storage());
  }

  void add_to(StoredBytes::Reading& reading) const {
    std::uint64_t nbytes = 0;
    for (const auto& [from, to] : storages_) nbytes += to->nbytes();
    if (nbytes > 0) os::require_memory("the part of the state that is new", nbytes);
    for (const auto& [from, to] : storages_) {
      bytes_.add(reading, from->data(), to->nbytes(), to->data(), true);
    }
  }

 private:
  std::shared_ptr<const Storage> storage_for(const std::shared_ptr<const Storage>& from) {
    auto& to = storages_[from];
    if (!to) to = Storage::allocate_for_overwrite(from->nbytes());
    return to;
  }

  const StoredBytes& bytes_;
  Arrangement* arrangement_;
  std::map<std::shared_ptr<const Storage>, std::shared_ptr<const Storage>> storages_;
};

// Runs of bytes go straight to their tensors; the others (strides, tensors that share memory)
// by way of private memory.
struct Overwrite {
  StoredBytes::Reading reading;
  std::vector<transfer::TensorCopy> others;

  Overwrite(const StoredBytes& bytes, const std::vector<transfer::TensorCopy>& copies) {
    PrivateCopies own(bytes);
    const auto add_other = [&](const transfer::TensorCopy& c) {
      if (c.to.numel() == 0) return;
      // What does not stand for bytes of a file was made by the comparison, or read already.
      others.push_back({own.replace(c.from), c.to});
    };
    const auto groups = transfer::group_copies(copies);
    for (const auto* c : groups.runs) {
      if (c->to.numel() > 0 && bytes.has_run(c->from)) {
        bytes.add(reading, c->from.data(), c->to.nbytes(), c->to.data(), false);
      } else {
        add_other(*c);
      }
    }
    for (const auto& group : groups.others) {
      for (const auto* c : group) add_other(*c);
    }
    own.add_to(reading);
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

// What was decoded of a step, as the caller's state needs it.
struct Decoded {
  const Value& state;
  const std::string& name;  ///< of the file or the step
  const StoredBytes& bytes;
  Arrangement& arrangement;
  bool is_verified;  ///< every byte has been
};

ResumeOutcome resume_decoded(const Decoded& decoded, Value& state, const ResumeRules& rules,
                             WorkerPool& copiers) {
  ResumeOutcome outcome;
  // 2. The trees, and what objects say.
  auto found = match(state, decoded.state, rules.match);
  if (!found.rename.empty() && !found.misfits.empty()) {
    found.misfits.push_back("some would fit with rename=" + found.rename);
  }
  require_fit(decoded.name, found.misfits);
  outcome.missing = std::move(found.missing);
  outcome.unexpected = std::move(found.unexpected);
  outcome.mismatched = std::move(found.mismatched);

  // 3. What needs memory of its own is read first: until all of that is there,
  // nothing has changed.
  PrivateCopies own(decoded.bytes, &decoded.arrangement);
  for (auto& part : found.objects) part.saved = own.replace(part.saved);
  auto merged = own.replace(found.merged);
  for (auto& claim : found.claims) claim.form = decoded.arrangement.form_of(claim.from.storage());
  AliasCheck aliases(std::move(found.claims));
  for (auto& claim : aliases.claims()) claim.from = own.replace(claim.from);
  os::require_memory("the part of the state that is new", decoded.arrangement.nbytes());
  StoredBytes::Reading privately;
  own.add_to(privately);
  decoded.bytes.read(std::move(privately));
  transfer::copy_tensors(decoded.arrangement.take_copies(), copiers);
  require_fit(decoded.name, aliases.conflicts(copiers));
  auto overwrite = Overwrite(decoded.bytes, found.copies);
  if (!decoded.is_verified) decoded.bytes.verify(overwrite.reading);
  for (const auto& part : found.objects) {
    if (auto* more = dynamic_cast<PartLoadable*>(part.object.get())) more->prepare(part.saved);
  }
  if (rules.before_change) rules.before_change(merged);

  // From here on the caller's state changes.
  change([&] {
    for (auto& part : found.objects) part.object->load(std::exchange(part.saved, {}));
  });
  change([&] {
    decoded.bytes.read(std::move(overwrite.reading));
    transfer::copy_tensors(overwrite.others, copiers);
  });
  state = std::move(merged);
  return outcome;
}

// Of one file: what the target has a chunk of is cut out.
Value leaves_for(const Value& target, const Value& saved, const std::vector<std::string>& names,
                 StoredBytes& bytes) {
  const auto wants = wants_of(target, saved, [](const Value& leaf) { return leaf; });
  const auto part_of = [&](const Tensor& tensor, const ranks::Chunk& chunk) {
    const auto whole = ranks::whole(tensor.shape());
    if (ranks::is_empty(chunk)) return Tensor::zeros(tensor.dtype(), chunk.sizes);
    if (!bytes.has_run(tensor)) return ranks::view_of(tensor, whole, chunk);
    const auto storage =
        bytes.put_together(chunk, item_size(tensor.dtype()), {{tensor.data(), whole, chunk}});
    return Tensor(storage, tensor.dtype(), chunk.sizes);
  };
  return lay_over(target, saved, names, wants, [&](const Value& leaf, const Counterpart& other) {
    if (leaf.type() != Value::Type::tensor) return leaf;
    const auto& tensor = leaf.as_tensor();
    const auto wanted = chunk_wanted(other.target, tensor.shape());
    if (!wanted || *wanted == ranks::whole(tensor.shape())) return leaf;
    return part_for(other, part_of(tensor, *wanted), {tensor.shape(), wanted->offsets});
  });
}

}  // namespace

ResumeOutcome resume_into(const store::ShardReader& file, Value& state, const ResumeRules& rules,
                          WorkerPool& readers, WorkerPool& copiers) {
  // 1. Every byte, verified; but where others read the rest, what is read later.
  BlockReader reader(file, readers);
  if (!rules.reads_part) reader.verify_all();
  auto how = reader.how();
  const auto& entries = file.header().entries;
  StoredBytes bytes;
  bytes.add_file(file, reader);
  Arrangement arrangement;
  arrangement.add_file(file.name(), file.header().data_nbytes);
  const EntryMemory memory{[&](std::uint32_t e) { return bytes.storage(entries[e]); },
                           [&](std::uint32_t e) { return reader.bytes(entries[e]); },
                           [&](const Tensor& t, const auto& form) {
                             arrangement.note(t, form);
                             return t;
                           }};
  const auto decoded = decode_state(file, memory, {}, rules.allow_pickle);
  const auto saved =
      renamed(ranks::own_parts_of(decoded, {}, 1, rules.own, file.name()), state, rules.rename);
  const auto leaves = leaves_for(state, saved, rules.match.names, bytes);
  auto outcome = resume_decoded({leaves, file.name(), bytes, arrangement, !rules.reads_part}, state,
                                rules, copiers);
  outcome.how = how.empty() ? reader.how() : std::move(how);
  return outcome;
}

ResumeOutcome resume_shards(const store::StepFolder& step, store::StepShards& shards, Value& state,
                            const ResumeRules& rules, WorkerPool& readers, WorkerPool& copiers) {
  ShardLeaves leaves(step, shards, readers, rules.allow_pickle);
  const auto own = ranks::own_parts_of(leaves.skeleton(), leaves.index().per_rank,
                                       static_cast<int>(leaves.index().chunks.files.size()),
                                       rules.own, step.path.native());
  const auto saved = leaves.leaves_for(state, renamed(own, state, rules.rename), rules.match.names);
  auto outcome =
      resume_decoded({saved, step.path.native(), leaves.bytes(), leaves.arrangement(), false},
                     state, rules, copiers);
  outcome.how = leaves.how();
  return outcome;
}

}  // namespace understudy::restore
