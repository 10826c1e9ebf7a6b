#include <map>
#include <optional>
#include <set>
#include <vector>

#include "build/check_parts.h"
#include "build/loadable.h"
#include "core/errors.h"
#include "understudy/chunk.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

using Type = Value::Type;

// What a tensor of the module is; nothing for what is not made yet (lazy modules).
struct OwnTensor {
  std::string dtype;
  Dims shape;
  bool is_dense = true;
};

// Which parts of a module decide for themselves what they load.
class Deciders {
 public:
  explicit Deciders(const Torch& torch, nb::handle module) {
    const nb::object base = torch.module.attr("nn").attr("Module");
    const nb::object norm =
        torch.module.attr("nn").attr("modules").attr("batchnorm").attr("_NormBase");
    const nb::object all = module.attr("named_modules")(nb::arg("remove_duplicate") = false);
    for (const nb::handle pair : all) {
      const nb::object part = pair[1];
      const auto name = text_of(nb::str(nb::handle(pair[0])));
      const auto prefix = name.empty() ? name : name + ".";
      if (nb::isinstance(part, norm) && !has_own(norm, part, "_load_from_state_dict") &&
          !has_hooks(part)) {
        norms_.insert(prefix);
      } else if (has_own(base, part, "_load_from_state_dict") || has_hooks(part)) {
        prefixes_.insert(prefix);
      }
    }
  }

  // Whether something above the name, or at it, sees what is loaded.
  bool decide(const std::string& name) const {
    if (prefixes_.empty()) return false;
    if (prefixes_.contains("")) return true;
    for (auto dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      if (prefixes_.contains(name.substr(0, dot + 1))) return true;
    }
    return false;
  }

  // Batch norms before version 2 counted nothing, and torch begins with what is there.
  bool may_lack(const std::string& name, const Value& state) const {
    constexpr std::string_view kCount = "num_batches_tracked";
    if (!name.ends_with(kCount)) return false;
    const auto prefix = name.substr(0, name.size() - kCount.size());
    if (!norms_.contains(prefix)) return false;
    const auto* all =
        state.extra().type() == Type::dict ? state.extra().find("_metadata") : nullptr;
    const auto* own = all != nullptr && all->type() == Type::dict
                          ? all->find(prefix.substr(0, prefix.size() - !prefix.empty()))
                          : nullptr;
    const auto* version =
        own != nullptr && own->type() == Type::dict ? own->find("version") : nullptr;
    return version == nullptr || version->type() != Type::integer || version->as_integer() < 2;
  }

 private:
  static bool has_hooks(nb::handle part) {
    for (const char* hooks : {"_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"}) {
      const nb::object found = nb::getattr(part, hooks, nb::none());
      if (found.is_none()) continue;
      for (const nb::handle hook : nb::list(found.attr("values")())) {
        if (!is_of_torch(hook)) return true;
      }
    }
    return false;
  }

  // Those of fully_shard change no names and no values.
  static bool is_of_torch(nb::handle hook) {
    const nb::object function = nb::getattr(hook, "hook", hook);
    const nb::object module = nb::getattr(function, "__module__", nb::none());
    return PyUnicode_Check(module.ptr()) != 0 &&
           text_of(module).starts_with("torch.distributed.fsdp._fully_shard");
  }

  std::set<std::string> prefixes_;
  std::set<std::string> norms_;
};

std::optional<OwnTensor> tensor_of(const Torch& torch, nb::handle object) {
  if (!nb::isinstance(object, torch.tensor) || nb::isinstance(object, torch.uninitialized)) {
    return {};
  }
  if (nb::cast<bool>(object.attr("is_nested"))) return {};  // one size is no number
  OwnTensor own;
  const bool is_dtensor = dtensor_type().is_valid() && nb::isinstance(object, dtensor_type());
  const bool is_plain = object.type().attr("__torch_dispatch__").is(torch.plain_dispatch);
  own.is_dense = (is_plain || is_dtensor) && object.attr("layout").is(torch.strided) &&
                 !nb::cast<bool>(object.attr("is_quantized"));
  own.dtype = text_of(nb::str(nb::object(object.attr("dtype"))));
  own.dtype = own.dtype.substr(own.dtype.find('.') + 1);
  for (const nb::handle n : nb::object(object.attr("shape"))) {
    own.shape.push_back(nb::cast<std::int64_t>(n));
  }
  return own;
}

using OwnNames = std::map<std::string, std::optional<OwnTensor>>;

OwnNames own_names(const Torch& torch, nb::handle module) {
  OwnNames names;
  const auto own = nb::borrow<nb::dict>(nb::object(module.attr("state_dict")()));
  for (const auto [key, child] : own) names[text_of(nb::str(key))] = tensor_of(torch, child);
  return names;
}

// A tensor that is not dense: its parts say of what shape and type it is.
std::string misfit_of_typed(const std::string& name, const OwnTensor& own, const Value& saved) {
  const auto *shape = saved.find("shape"), *dtype = saved.find("dtype");
  const auto what = typed_name(saved);
  const bool is_tensor = shape != nullptr && shape->type() == Type::tuple && dtype != nullptr &&
                         dtype->type() == Type::text && !what.starts_with("numpy.");
  if (!is_tensor) return fmt::format("'{}' was saved as a {}, which is no tensor", name, what);
  if (own.is_dense) return fmt::format("'{}' is dense here, but was saved as a {}", name, what);
  Dims dims;
  for (const auto& n : shape->items()) {
    dims.push_back(n.type() == Type::integer ? n.as_integer() : -1);
  }
  if (dims != own.shape) {
    return fmt::format("'{}' has shape {} here, but was saved with {}", name, dims_text(own.shape),
                       dims_text(dims));
  }
  if (dtype->as_text() == own.dtype) return {};
  return fmt::format("'{}' is {} here, but was saved as {}", name, own.dtype, dtype->as_text());
}

std::string misfit_of(const std::string& name, const OwnTensor& own, const Value& saved,
                      bool convert) {
  if (saved.kind() == Value::Kind::typed) return misfit_of_typed(name, own, saved);
  if (saved.type() != Type::tensor) return fmt::format("'{}' was saved as no tensor", name);
  const auto& tensor = saved.as_tensor();
  // Torch takes the only element of what versions before 0.4 had as vectors.
  const auto shape = saved_shape(saved);
  const bool is_old_scalar = own.shape.empty() && shape.size() == 1;
  if (shape != own.shape && !is_old_scalar) {
    return fmt::format("'{}' has shape {} here, but was saved with {}", name, dims_text(own.shape),
                       dims_text(shape));
  }
  const auto saved_dtype = understudy::name(tensor.dtype());
  // Torch would drop the imaginary parts.
  const bool can_convert = own.dtype.starts_with("complex") || !saved_dtype.starts_with("complex");
  if (saved_dtype == own.dtype || (convert && can_convert)) return {};
  return fmt::format("'{}' is {} here, but was saved as {}{}", name, own.dtype, saved_dtype,
                     can_convert ? " (convert=True converts it)" : "");
}

}  // namespace

Dims saved_shape(const Value& saved) {
  const auto place = chunk_of(saved);
  return place ? place->shape : saved.as_tensor().shape();
}

std::string dims_text(const Dims& dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

bool has_own(const nb::object& base, nb::handle object, const char* method) {
  const nb::object own = nb::getattr(object, "__dict__", nb::none());
  if (PyDict_Check(own.ptr()) && nb::borrow<nb::dict>(own).contains(method)) return true;
  return !nb::object(object.type().attr(method)).is(nb::object(base.attr(method)));
}

LoadAnswer ask_module(const Torch& torch, nb::handle module, const Value& state,
                      const LoadPolicy& policy) {
  LoadAnswer answer;
  answer.state = state;
  if (has_own(torch.module.attr("nn").attr("Module"), module, "load_state_dict")) {
    if (policy.wants) answer.objection = kTakesItsPartWhole;
    return answer;
  }
  if (state.type() != Type::dict) {
    answer.objection = "the saved state is no dict, but a module needs one";
    return answer;
  }
  const Deciders deciders(torch, module);
  const auto is_wanted = [&](const std::string& name) {
    return !policy.wants || policy.wants(name);
  };
  const auto own = own_names(torch, module);
  std::set<std::string> saved;
  Value::Pairs taken;
  for (const auto& [key, child] : state.pairs()) {
    const auto name = key.type() == Type::text ? key.as_text() : std::string();
    if (!is_wanted(name)) continue;
    saved.insert(name);
    const auto found = own.find(name);
    std::string misfit;
    if (!deciders.decide(name)) {
      if (found == own.end()) {
        answer.unexpected.push_back(name);
        continue;
      }
      if (found->second) misfit = misfit_of(name, *found->second, child, policy.convert);
    }
    if (misfit.empty()) {
      taken.emplace_back(key, child);
    } else {
      answer.mismatched.emplace_back(name, std::move(misfit));
    }
  }
  for (const auto& [name, tensor] : own) {
    const bool is_fine = saved.contains(name) || !is_wanted(name) || deciders.decide(name) ||
                         deciders.may_lack(name, state);
    if (!is_fine) answer.missing.push_back(name);
  }
  if (!policy.strict || policy.wants) {
    answer.state = Value::dict(std::move(taken)).with_kind(state.kind(), state.extra());
  }
  return answer;
}

Value tensors_of_module(nb::handle module) {
  Value::Pairs tensors;
  const auto own = nb::borrow<nb::dict>(nb::object(module.attr("state_dict")()));
  for (const auto [key, child] : own) {
    try {
      auto value = Walker(walking_for_target()).walk(child);
      const bool is_whole = value.type() == Type::tensor && value.kind() != Value::Kind::chunk;
      if (is_whole) tensors.emplace_back(text_of(nb::str(key)), value);
    } catch (const Error&) {
      // Elsewhere than in host memory, or not made yet: nothing that could be compared.
    }
  }
  return Value::dict(std::move(tensors));
}

}  // namespace understudy::python
