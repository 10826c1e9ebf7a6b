// DTensors: of each the part that this process has, and where it lies in the whole.
#include "core/errors.h"
#include "understudy/chunk.h"
#include "walk/last_walk_pass.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

PyObject* spec_name() {
  static auto* const name = interned("_spec");
  return name;
}

PyObject* local_name() {
  static auto* const name = interned("_local_tensor");
  return name;
}

}  // namespace

Value Walker::dtensor(PyObject* o, const Path& path) {
  static auto* const look =
      nb::object(nb::module_::import_("understudy._dtensors").attr("look")).release().ptr();
  const auto refuse = [&](const std::string& why) {
    fail(ErrorCode::unsupported, "the tensor {} is a DTensor{}", path.place(), why);
  };
  if (options_.purpose == Purpose::memory) {
    refuse(", which no snapshot takes; a Checkpointer does, and torch.distributed.checkpoint");
  }
  const auto found = steal_or_throw(PyObject_CallFunctionObjArgs(look, o, nullptr));
  if (PyUnicode_Check(found.ptr())) refuse(" " + text_of(found));
  if (record_ != nullptr) record_->set_dtensor(nb::getattr(nb::handle(o), spec_name(), nb::none()));
  const nb::object local = found[0];
  sources_->add(local);
  const Value part = node(local.ptr(), path);
  if (part.type() != Value::Type::tensor) refuse(" of tensors that are not dense");
  if (options_.purpose == Purpose::target) torch_tensors_.push_back(sources_->add(nb::borrow(o)));
  ChunkPlace place{dims_of(found[1]), dims_of(found[2])};
  // What is all of it may be saved and restored as any other tensor.
  if (part.as_tensor().shape() == place.shape) return Value(part.as_tensor());
  if (!options_.takes_chunks) {
    refuse(", of which this process has a part; a Checkpointer of all ranks takes it");
  }
  return chunk(part.as_tensor(), place);
}

void LastWalk::set_dtensor(nb::object spec) {
  if (!can_repeat_) return;
  if (spec.is_none()) return give_up();
  auto& step = steps_.back();
  step.kind = Kind::dtensor;
  step.index = specs_.size();
  specs_.push_back(std::move(spec));
}

bool LastWalk::is_same_dtensor(const Step& step, PyObject* o, const Path& path) {
  const auto& before = specs_[step.index];
  const auto spec = get_attribute(o, spec_name());
  if (!spec.is(before) && !spec.equal(before)) return false;
  const auto local = get_attribute(o, local_name());
  return is_same(local.ptr(), path);
}

}  // namespace understudy::python
