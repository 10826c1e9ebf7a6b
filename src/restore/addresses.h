// A state whose tensors are known by where their bytes lie in the file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "store/reader.h"
#include "vm/mapping.h"

namespace understudy::restore {

/// Stands for the data section: its addresses say which bytes of the file are
/// meant, and nothing is ever written or read there.
class Addresses {
 public:
  explicit Addresses(const store::ShardReader& reader)
      : nbytes_(reader.header().data_nbytes),
        reserved_(std::make_shared<vm::Mapping>(
            vm::Mapping::reserve(std::max<std::uint64_t>(nbytes_, 1)))) {}

  std::shared_ptr<const Storage> storage(const format::Entry& entry) const {
    return std::make_shared<Storage>(reserved_->data() + entry.begin, entry.nbytes(), reserved_);
  }
  const std::byte* begin() const { return reserved_->data(); }
  bool contains(const Tensor& t) const {
    const auto* at = t.storage()->data();
    return at >= reserved_->data() && at <= reserved_->data() + nbytes_ &&
           t.storage()->nbytes() > 0;
  }
  std::uint64_t offset(const std::byte* at) const {
    return static_cast<std::uint64_t>(at - reserved_->data());
  }

 private:
  std::uint64_t nbytes_;
  std::shared_ptr<vm::Mapping> reserved_;
};

}  // namespace understudy::restore
