#include "restore/resume.h"

#include <map>

#include "base/error.h"
#include "restore/decode.h"
#include "restore/load.h"
#include "restore/match.h"

namespace understudy::restore {
namespace {

// Gives objects memory of their own: they may keep it, and the image is reused.
class PrivateCopies {
 public:
  // The same tree over new storages, which are filled by copy_all.
  Value replace(const Value& node) {
    switch (node.type()) {
      case Value::Type::tensor: {
        const auto& t = node.as_tensor();
        Tensor own(storage_for(t.storage()), t.dtype(), t.shape(), t.strides(), t.byte_offset());
        return Value(std::move(own)).with_kind(node.kind(), node.extra());
      }
      case Value::Type::dict: {
        Value::Pairs pairs;
        for (const auto& [key, child] : node.pairs()) pairs.emplace_back(key, replace(child));
        return Value::dict(std::move(pairs)).with_kind(node.kind(), node.extra());
      }
      case Value::Type::list:
      case Value::Type::tuple: {
        Value::Items items;
        for (const auto& child : node.items()) items.push_back(replace(child));
        auto made = node.type() == Value::Type::list ? Value::list(std::move(items))
                                                     : Value::tuple(std::move(items));
        return made.with_kind(node.kind(), node.extra());
      }
      default: return node;
    }
  }

  void copy_all(WorkerPool& workers) const {
    std::vector<transfer::TensorCopy> copies;
    for (const auto& [from, to] : storages_) {
      const Dims shape{static_cast<std::int64_t>(to->nbytes())};
      copies.push_back(
          {Tensor::borrow(from->data(), DType::u8, shape), Tensor(to, DType::u8, shape)});
    }
    transfer::copy_tensors(copies, workers);
  }

 private:
  std::shared_ptr<const Storage> storage_for(const std::shared_ptr<const Storage>& from) {
    auto& to = storages_[from];
    if (!to) to = Storage::allocate(from->nbytes());
    return to;
  }

  std::map<std::shared_ptr<const Storage>, std::shared_ptr<const Storage>> storages_;
};

}  // namespace

void resume_into(const store::ShardReader& reader, Value& state, const memory::Lease& image,
                 bool allow_pickle, WorkerPool& readers, WorkerPool& copiers) {
  // 1. Every byte, verified.
  auto* data = image->data();
  read_all(reader, data, readers);
  const auto& entries = reader.header().entries;
  const EntryMemory memory{
      [&](std::uint32_t e) {
        return std::make_shared<Storage>(data + entries[e].begin, entries[e].nbytes(), image);
      },
      [&](std::uint32_t e) {
        return std::string(reinterpret_cast<const char*>(data + entries[e].begin),
                           entries[e].nbytes());
      }};
  const auto saved = decode_state(reader, memory, {}, allow_pickle);

  // 2. The trees, and what objects say.
  auto found = match(state, saved);
  if (!found.misfits.empty()) {
    fail(ErrorCode::invalid, "{} does not fit the state given, and nothing was changed: {}",
         reader.name(), fmt::join(found.misfits, "; "));
  }

  // 3. From here on the caller's state changes.
  PrivateCopies own;
  std::vector<Value> parts;
  for (const auto& part : found.objects) parts.push_back(own.replace(part.saved));
  own.copy_all(copiers);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    found.objects[i].object->load(std::exchange(parts[i], {}));
  }
  transfer::copy_tensors(found.copies, copiers);
  state = std::move(found.merged);
}

}  // namespace understudy::restore
