// Value: a state dict as a tree.
#pragma once

#include <complex>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "understudy/tensor.h"

namespace understudy {

class Value;

/// An object that takes its part of a restored state by itself, as modules and
/// optimizers do with `load_state_dict`. Used by `Checkpointer::resume` only.
class Loadable {
 public:
  virtual ~Loadable() = default;
  /// Says in one sentence why `state` cannot be loaded, or nothing when it can.
  /// Called for all objects before the first `load`. Must not change anything.
  /// The tensors in it have their types and shapes; their bytes are not there
  /// yet, and read as zeros.
  virtual std::string check(const Value& state) = 0;
  /// Takes the state. Its tensors are private memory that may be kept.
  virtual void load(const Value& state) = 0;
};

/// A leaf that Understudy does not look into.
struct Opaque {
  std::string type_name;         ///< for messages: "my.module.Thing"
  std::shared_ptr<void> object;  ///< the binding's own handle; null after loading
  std::shared_ptr<const std::string>
      pickle;                          ///< bytes that a file may carry, when the caller allowed it
  std::shared_ptr<Loadable> loadable;  ///< set only in the target of a resume
};

/// A node of the tree: immutable, cheap to copy (children are shared).
/// Besides its type a node has a *kind*, which says what the type stood for in
/// the language it came from, and for some kinds an *extra* value.
class Value {
 public:
  /// What a node holds.
  enum class Type : std::uint8_t {
    none,
    boolean,
    integer,
    floating,
    complex,
    text,
    bytes,
    list,
    tuple,
    dict,
    tensor,
    opaque,
  };

  /// What a node was in Python. In brackets the type that carries it, and extra.
  enum class Kind : std::uint8_t {
    plain,
    big_integer,         ///< text: decimal digits of an int beyond 64 bits
    surrogate_text,      ///< bytes: a str that UTF-8 cannot hold, encoded with surrogatepass
    byte_array,          ///< bytes
    ordered_dict,        ///< dict; extra: none, or a dict of the object's attributes (`_metadata`)
    default_dict,        ///< dict; extra: text, the factory's name (int, list, ...), or none
    counter,             ///< dict
    simple_namespace,    ///< dict
    argparse_namespace,  ///< dict
    deque,               ///< list; extra: maxlen as integer, or none
    set,                 ///< list
    frozen_set,          ///< list
    named_tuple,         ///< tuple; extra: tuple of texts, the type's name and the fields
    torch_size,          ///< tuple of integers
    torch_dtype,         ///< text: "float32"
    torch_device,        ///< text: "cuda:0"
    numpy_scalar,        ///< bytes, little-endian; extra: text, NumPy's dtype string ("<f4")
    numpy_dtype,         ///< text: NumPy's dtype string
    path,                ///< text; extra: text, the class ("PosixPath", "PurePosixPath", ...)
    numpy_array,         ///< tensor
    parameter,           ///< tensor: torch.nn.Parameter; extra: boolean, requires_grad
    slice,               ///< tuple of three
    range,               ///< tuple of three integers
    ellipsis,            ///< none
    long_integer,  ///< bytes: an int too long for decimal digits, two's complement, little-endian
    typed,  ///< dict of fields; extra: tuple of texts, the type's name out of a closed list, and
            ///< for a class of the user's its module and its name in it
    chunk,  ///< tensor: this rank's part of one, see understudy/chunk.h; in no file
  };

  using Pair = std::pair<Value, Value>;  ///< a key and its value
  using Items = std::vector<Value>;      ///< children of a list or tuple
  using Pairs = std::vector<Pair>;       ///< children of a dict, in order

  Value() noexcept;                                      ///< none
  Value(bool v);                                         ///< boolean
  Value(std::int64_t v);                                 ///< integer
  Value(int v) : Value(static_cast<std::int64_t>(v)) {}  ///< integer
  Value(double v);                                       ///< floating
  Value(std::complex<double> v);                         ///< complex
  Value(const char* v) : Value(std::string(v)) {}        ///< text, UTF-8
  Value(std::string_view v) : Value(std::string(v)) {}   ///< text, UTF-8
  Value(std::string v);                                  ///< text, UTF-8
  Value(Tensor v);                                       ///< tensor
  Value(Opaque v);                                       ///< opaque

  static Value bytes(std::string v);  ///< bytes
  static Value list(Items items);     ///< a list of these children
  static Value tuple(Items items);    ///< a tuple of these children
  static Value dict(Pairs pairs);     ///< a dict with these pairs, in their order
  /// A dict with these pairs, in their order.
  static Value dict(std::initializer_list<Pair> pairs) { return dict(Pairs(pairs)); }

  /// The same node with another kind and extra.
  Value with_kind(Kind kind, Value extra = {}) const;

  /// What the node holds.
  Type type() const noexcept { return static_cast<Type>(payload_.index()); }
  /// What the type stands for; `plain` for the type itself.
  Kind kind() const noexcept { return kind_; }
  /// The kind's extra value; none when there is none.
  const Value& extra() const noexcept;

  /// Whether it holds nothing.
  bool is_none() const noexcept { return type() == Type::none; }
  /// Whether it is a list, a tuple or a dict.
  bool is_container() const noexcept {
    return type() == Type::list || type() == Type::tuple || type() == Type::dict;
  }

  /// The node's value. Throws Error(invalid) when it is of another type, as the next ones do.
  bool as_boolean() const;
  std::int64_t as_integer() const;          ///< an integer's value
  double as_floating() const;               ///< a float's value
  std::complex<double> as_complex() const;  ///< a complex number's value
  const std::string& as_text() const;       ///< a text, UTF-8
  const std::string& as_bytes() const;      ///< raw bytes
  const Tensor& as_tensor() const;          ///< a tensor
  const Opaque& as_opaque() const;          ///< an opaque leaf
  /// Children of a list or tuple.
  std::span<const Value> items() const;
  /// Children of a dict, in insertion order. Keys may be of any hashable type.
  std::span<const Pair> pairs() const;

  /// The child of a dict under a text key, or null.
  const Value* find(std::string_view key) const;
  /// The child of a dict under a text key; throws Error(not_found).
  const Value& at(std::string_view key) const;

 private:
  struct TextBox {
    std::shared_ptr<const std::string> v;
  };
  struct BytesBox {
    std::shared_ptr<const std::string> v;
  };
  struct ListBox {
    std::shared_ptr<const Items> v;
  };
  struct TupleBox {
    std::shared_ptr<const Items> v;
  };
  struct DictBox {
    std::shared_ptr<const Pairs> v;
  };
  struct ComplexBox {
    std::shared_ptr<const std::complex<double>> v;
  };
  // In the order of Type.
  using Payload = std::variant<std::monostate, bool, std::int64_t, double, ComplexBox, TextBox,
                               BytesBox, ListBox, TupleBox, DictBox, std::shared_ptr<const Tensor>,
                               std::shared_ptr<const Opaque>>;

  Payload payload_;
  std::shared_ptr<const Value> extra_;
  Kind kind_ = Kind::plain;
};

/// The type's name for messages: "dict", "tensor".
std::string_view to_string(Value::Type type) noexcept;
/// The kind's name, as the enumerator: "ordered_dict".
std::string_view to_string(Value::Kind kind) noexcept;
/// A dict key as it stands in paths, without quotes: text as it is, others as Python writes them.
std::string key_text(const Value& key);

/// What a `typed` node was, for people: "datetime.date", "dataclass train.Config". Empty for
/// others.
std::string typed_name(const Value& value);

/// Deepest nesting of containers that is accepted; deeper is Error(invalid).
/// State dicts are a dozen deep; the bound keeps every walk within any stack.
inline constexpr int kMaxDepth = 500;

}  // namespace understudy
