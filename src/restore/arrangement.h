// How tensors that files have in C order lay in memory.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "restore/arrange.h"

namespace understudy::restore {

/// The forms, by the storages that stand for the tensors in their files; each file has an Arranger
/// of its own.
class Arrangement {
 public:
  /// `data_nbytes` as for an Arranger.
  void add_file(std::string name, std::uint64_t data_nbytes) {
    arrangers_.emplace_back(std::move(name), data_nbytes);
  }
  /// `in_file` is of the file that was added last.
  void note(const Tensor& in_file, value::InMemory form) {
    const auto file = arrangers_.size() - 1;
    // Each file counts its runs from 0.
    const auto run = runs_.try_emplace({file, form.run}, runs_.size()).first->second;
    form.run = static_cast<std::uint32_t>(run);
    forms_[in_file.storage()] = {file, std::move(form)};
  }

  /// Nothing for what lies in memory as in its file. Runs are counted over all files.
  std::optional<value::InMemory> form_of(const std::shared_ptr<const Storage>& storage) const {
    const auto found = forms_.find(storage);
    return found == forms_.end() ? std::nullopt : std::optional(found->second.second);
  }
  /// `read`, which has the bytes of the tensor that `storage` stands for, as it lay in memory.
  Tensor place(const Tensor& read, const std::shared_ptr<const Storage>& storage) {
    const auto found = forms_.find(storage);
    if (found == forms_.end()) return read;
    return arrangers_[found->second.first].place(read, found->second.second);
  }

  /// As of an Arranger, of all files.
  std::uint64_t nbytes() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& arranger : arrangers_) sum += arranger.nbytes();
    return sum;
  }
  std::vector<transfer::TensorCopy> take_copies() {
    std::vector<transfer::TensorCopy> all;
    for (auto& arranger : arrangers_) {
      for (auto& copy : arranger.take_copies()) all.push_back(std::move(copy));
    }
    return all;
  }

 private:
  std::deque<Arranger> arrangers_;
  std::map<std::pair<std::size_t, std::uint32_t>, std::size_t> runs_;
  std::map<std::shared_ptr<const Storage>, std::pair<std::size_t, value::InMemory>> forms_;
};

}  // namespace understudy::restore
