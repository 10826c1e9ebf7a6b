// The memory that a resume will write to.
#pragma once

#include <string>
#include <vector>

#include "core/common.h"
#include "core/refs.h"
#include "frameworks/frameworks.h"
#include "frameworks/storage_bytes.h"

namespace understudy::python {

/// What lay behind the caller's tensors and arrays when they were walked. Objects run code of the
/// caller's when they take their parts; tensors are written after that.
class TargetMemory {
 public:
  /// `storage` is torch's, under the tensor at `place`. Both objects must outlive this.
  void add_storage(PyObject* storage, const StorageBytes& bytes, std::string place) {
    targets_.push_back({storage, bytes, std::move(place), true});
  }
  void add_array(PyObject* array, const Py_buffer& view, std::string place);

  /// Throws Error(invalid) with the path of the first whose memory is another now.
  void require_unchanged() const;

 private:
  struct Target {
    PyObject* object;
    StorageBytes bytes;
    std::string place;
    bool is_torch;
  };

  static StorageBytes present_bytes(const Target& target);

  std::vector<Target> targets_;
};

}  // namespace understudy::python
