#include "frameworks/peek.h"

#include <malloc.h>

#include <algorithm>
#include <array>
#include <vector>

namespace understudy::python {

namespace {

constexpr std::size_t kWord = sizeof(std::uint64_t);
// After the reference count and the type.
constexpr std::size_t kObjectBody = 2 * kWord;
// torch's tensors take 184 bytes, its storages about 64.
constexpr std::size_t kMaxLooked = 512;

std::uintptr_t handle_of(nb::handle o) {
  return nb::cast<std::uintptr_t>(o.attr("_cdata"));
}

std::size_t nbytes_of_object(nb::handle o) {
  return nb::cast<std::size_t>(o.type().attr("__basicsize__"));
}

}  // namespace

struct PeekFinder {
  using Objects = std::vector<nb::object>;
  using Words = std::vector<std::uint64_t>;

  explicit PeekFinder(nb::handle torch_module) : torch(torch_module) {}

  nb::object empty(int rows, int columns, const char* dtype) const {
    return torch.attr("empty")(nb::make_tuple(rows, columns), nb::arg("dtype") = torch.attr(dtype),
                               nb::arg("device") = "cpu");
  }

  // The one place among the words of each base that holds the value asked for.
  static std::optional<std::size_t> place_of(const Words& bases, const Words& values,
                                             std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at + kWord <= end; at += kWord) {
      bool is_it = true;
      for (std::size_t i = 0; i < bases.size() && is_it; ++i) {
        is_it = Peek::word(reinterpret_cast<const void*>(bases[i]), at) == values[i];
      }
      if (is_it) return at;
    }
    return {};
  }

  // How much may be read at an address that operator new gave. Less than
  // `kMaxLooked` for all of torch's own.
  static std::size_t readable(const Words& addresses) {
    auto least = kMaxLooked;
    for (const auto address : addresses) {
      least = std::min(least, malloc_usable_size(reinterpret_cast<void*>(address)));
    }
    return least;
  }

  static Words addresses_of(const Objects& objects) {
    Words words;
    for (const auto& o : objects) words.push_back(reinterpret_cast<std::uintptr_t>(o.ptr()));
    return words;
  }
  static Words handles_of(const Objects& objects) {
    Words words;
    for (const auto& o : objects) words.push_back(handle_of(o));
    return words;
  }

  bool find_handles() {
    Objects storages;
    Words sizes, data;
    for (const auto& t : tensors) {
      storages.push_back(t.attr("untyped_storage")());
      sizes.push_back(nb::cast<std::uint64_t>(storages.back().attr("nbytes")()));
      data.push_back(nb::cast<std::uint64_t>(storages.back().attr("data_ptr")()));
    }
    const auto in_tensors = handles_of(tensors), in_storages = handles_of(storages);
    peek.object_nbytes_ = nbytes_of_object(tensors[0]);
    const auto handle =
        place_of(addresses_of(tensors), in_tensors, kObjectBody, peek.object_nbytes_);
    const auto storage_handle =
        place_of(addresses_of(storages), in_storages, kObjectBody, nbytes_of_object(storages[0]));
    const auto storage = place_of(in_tensors, in_storages, kWord, readable(in_tensors));
    const auto nbytes = place_of(in_storages, sizes, kWord, readable(in_storages));
    // Before whatever frees them, which may be the same address.
    const auto begin = place_of(in_storages, data, kWord, readable(in_storages));
    if (!handle || !storage_handle || !storage || !nbytes || !begin) return false;
    peek.handle_at_ = *handle;
    peek.storage_handle_at_ = *storage_handle;
    peek.storage_at_ = *storage;
    peek.nbytes_at_ = *nbytes;
    peek.data_at_ = *begin;
    return true;
  }

  // Where a storage keeps its Python object, if that is held as any other.
  void find_storage_objects() {
    Objects storages;
    for (const auto& t : tensors) storages.push_back(t.attr("untyped_storage")());
    const auto handles = handles_of(storages), objects = addresses_of(storages);
    const auto at = place_of(handles, objects, kWord, readable(handles));
    if (!at) return;
    storages.clear();
    peek.storage_object_at_ = *at;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      auto* object = peek.object_of(peek.storage_of(tensors[i].ptr()));
      if (reinterpret_cast<std::uintptr_t>(object) != objects[i] || !outlives_tensor()) {
        peek.storage_object_at_ = 0;
        return;
      }
    }
  }

  // Held by nobody but us, a storage's object keeps it.
  bool outlives_tensor() const {
    nb::object tensor = empty(11, 3, "float32");
    tensor.attr("untyped_storage")();
    const auto* storage = peek.storage_of(tensor.ptr());
    const auto held = nb::borrow(peek.object_of(storage));
    tensor.reset();
    return Py_REFCNT(held.ptr()) == 1 && peek.storage_in(held.ptr()) == storage &&
           nb::cast<int>(held.attr("nbytes")()) == 11 * 3 * 4;
  }

  // The one bit that all pairs differ in at this place, or 0.
  static std::uint64_t marking_bit(const Words& plain, const Words& marked, std::size_t at) {
    std::uint64_t bit = 0;
    for (std::size_t i = 0; i < plain.size(); ++i) {
      const auto before = Peek::word(reinterpret_cast<const void*>(plain[i]), at);
      const auto difference = before ^ Peek::word(reinterpret_cast<const void*>(marked[i]), at);
      if (!std::has_single_bit(difference) || (before & difference) != 0) return 0;
      if (bit != 0 && bit != difference) return 0;
      bit = difference;
    }
    return bit;
  }

  bool find_lazy_bits() {
    Objects plain, conjugates, negatives;
    for (const auto& t : tensors) {
      if (!nb::cast<bool>(t.attr("is_complex")())) continue;
      plain.push_back(t);
      conjugates.push_back(t.attr("conj")());
      negatives.push_back(torch.attr("_neg_view")(t));
    }
    const auto before = handles_of(plain);
    const auto conjugated = handles_of(conjugates), negated = handles_of(negatives);
    auto all = before;
    all.insert(all.end(), conjugated.begin(), conjugated.end());
    all.insert(all.end(), negated.begin(), negated.end());
    int found = 0;
    for (std::size_t at = peek.storage_at_ + kWord; at + kWord <= readable(all); at += kWord) {
      const auto conjugate = marking_bit(before, conjugated, at);
      const auto negative = marking_bit(before, negated, at);
      if (conjugate == 0 || negative == 0 || conjugate == negative) continue;
      peek.keys_at_ = at;
      peek.lazy_bits_ = conjugate | negative;
      ++found;
    }
    return found == 1;
  }

  bool tells_views_apart() const {
    const auto t = empty(4, 4, "float32"), other = empty(4, 4, "float32");
    const nb::object z = empty(4, 4, "complex64"), u = empty(4, 4, "uint8");
    const nb::object flat = t.attr("reshape")(-1), int32 = torch.attr("int32");
    const auto part = [&](int begin, int end) -> nb::object {
      return flat.attr("narrow")(0, begin, end - begin);
    };
    const Objects all{t,
                      other,
                      t.attr("t")(),
                      flat,
                      part(0, 8),
                      part(1, 9),
                      part(0, 9),
                      t.attr("view")(int32),
                      t.attr("unsqueeze")(0),
                      t.attr("unsqueeze")(2),
                      torch.attr("_neg_view")(t),
                      t.attr("expand")(2, 4, 4),
                      t.attr("as_strided")(nb::make_tuple(4, 4), nb::make_tuple(1, 1)),
                      t.attr("as_strided")(nb::make_tuple(2, 2, 2, 2), nb::make_tuple(8, 4, 2, 1)),
                      t.attr("as_strided")(nb::make_tuple(2, 2, 2, 2), nb::make_tuple(8, 4, 1, 2)),
                      z,
                      z.attr("conj")(),
                      z.attr("real"),
                      z.attr("imag"),
                      z.attr("conj")().attr("imag"),
                      u,
                      u.attr("view")(torch.attr("int8")),
                      u.attr("view")(torch.attr("bool"))};
    Words views;
    for (const auto& o : all) views.push_back(peek.view_of(o.ptr()));
    std::sort(views.begin(), views.end());
    return std::adjacent_find(views.begin(), views.end()) == views.end() &&
           peek.view_of(t.ptr()) == peek.view_of(nb::object(t.attr("view")(4, 4)).ptr());
  }

  // Whether the functions say of a tensor what it says itself.
  bool is_told_right(const nb::object& t) const {
    StableFunctions::Form form;
    std::int64_t nbytes = 0;
    const void* data = nullptr;
    const auto handle = peek.handle_of(t.ptr());
    if (!peek.functions_.form(handle, form) || !peek.functions_.storage_nbytes(handle, nbytes) ||
        !peek.functions_.data(handle, data)) {
      return false;
    }
    const auto number = [](const nb::object& o) { return nb::cast<std::int64_t>(o); };
    const nb::object size = t.attr("size")(), stride = t.attr("stride")();
    bool is_right = form.dims == number(t.attr("dim")()) &&
                    form.offset == number(t.attr("storage_offset")()) &&
                    nbytes == number(t.attr("untyped_storage")().attr("nbytes")()) &&
                    reinterpret_cast<std::intptr_t>(data) == number(t.attr("data_ptr")());
    for (std::int64_t i = 0; i < form.dims && is_right; ++i) {
      is_right = form.sizes[i] == number(size[i]) && form.strides[i] == number(stride[i]);
    }
    return is_right;
  }

  // On tensors that nothing was found by.
  bool is_right() const {
    const auto is = [](const nb::object& t, const char* what) {
      return nb::cast<bool>(t.attr(what)());
    };
    Objects tried;
    for (const char* dtype : {"float32", "complex128", "bfloat16", "bool", "int64"}) {
      tried.push_back(empty(3, 4, dtype));
    }
    tried.push_back(tried[0].attr("t")());
    tried.push_back(torch.attr("nn").attr("Parameter")(tried[0]));
    tried.push_back(torch.attr("_neg_view")(tried[0]));
    tried.push_back(tried[1].attr("conj")());
    tried.push_back(tried[1].attr("conj")().attr("imag"));
    tried.push_back(tried[1].attr("conj")().attr("conj")());
    tried.push_back(tried[1].attr("conj")().attr("resolve_conj")());
    for (const auto& t : tried) {
      const nb::object storage = t.attr("untyped_storage")();
      const auto* impl = reinterpret_cast<const void*>(handle_of(storage));
      if (nbytes_of_object(t) != peek.object_nbytes_ || !is_told_right(t) ||
          peek.has_lazy_bit(t.ptr()) != (is(t, "is_conj") || is(t, "is_neg")) ||
          peek.storage_of(t.ptr()) != impl || peek.storage_in(storage.ptr()) != impl ||
          peek.nbytes(impl) != nb::cast<std::uint64_t>(storage.attr("nbytes")()) ||
          reinterpret_cast<std::uintptr_t>(peek.data(impl)) !=
              nb::cast<std::uintptr_t>(storage.attr("data_ptr")())) {
        return false;
      }
    }
    return true;
  }

  std::optional<Peek> find() {
    // Sizes that nothing else is likely to hold.
    for (const auto& [rows, dtype] : {std::pair{1237, "complex64"},
                                      {2741, "float32"},
                                      {3319, "complex128"},
                                      {877, "complex64"}}) {
      tensors.push_back(empty(rows, 3, dtype));
    }
    const auto functions = StableFunctions::find(torch);
    if (!functions || !find_handles() || !find_lazy_bits()) return {};
    peek.functions_ = *functions;
    if (!tells_views_apart() || !is_right()) return {};
    find_storage_objects();
    return peek;
  }

  nb::handle torch;
  Objects tensors;
  Peek peek;
};

std::optional<Peek> Peek::find(nb::handle torch_module) {
  try {
    return PeekFinder(torch_module).find();
  } catch (const nb::python_error&) {
    return {};  // a torch without one of these
  } catch (const nb::cast_error&) {
    return {};
  }
}

bool Peek::can_look(nb::handle torch_module) {
  const auto says = [](const nb::object& answer) { return nb::cast<bool>(answer); };
  try {
    const nb::object t = torch_module.attr("empty")(1);
    return t.type().is(torch_module.attr("Tensor")) && says(t.attr("is_cpu")) &&
           !says(
               torch_module.attr("_C").attr("_functorch").attr("is_functorch_wrapped_tensor")(t)) &&
           !says(torch_module.attr("_is_functional_tensor")(t));
  } catch (const nb::python_error&) {
    return true;  // a torch without one of these: it will not get them
  }
}

std::uint64_t Peek::fingerprint(PyObject* tensor) const {
  std::uint64_t sum = 0;
  const auto take = [&](const void* base, std::size_t begin, std::size_t end) {
    for (auto at = begin; at < end; at += kWord) sum = mixed(sum, word(base, at));
  };
  take(tensor, kWord, object_nbytes_);
  take(tensor_of(tensor), 0, keys_at_ + kWord);
  return sum;
}

}  // namespace understudy::python
