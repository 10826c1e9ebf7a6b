#include "understudy/value.h"

#include "base/error.h"

namespace understudy {
namespace {

[[noreturn]] void fail_type(std::string_view wanted, Value::Type found) {
  fail(ErrorCode::invalid, "a {} was expected where the state has a {}", wanted, to_string(found));
}

}  // namespace

Value::Value() noexcept = default;
Value::Value(bool v) : payload_(v) {}
Value::Value(std::int64_t v) : payload_(v) {}
Value::Value(double v) : payload_(v) {}
Value::Value(std::complex<double> v)
    : payload_(ComplexBox{std::make_shared<const std::complex<double>>(v)}) {}
Value::Value(std::string v)
    : payload_(TextBox{std::make_shared<const std::string>(std::move(v))}) {}
Value::Value(Tensor v) : payload_(std::make_shared<const Tensor>(std::move(v))) {}
Value::Value(Opaque v) : payload_(std::make_shared<const Opaque>(std::move(v))) {}

Value Value::bytes(std::string v) {
  Value r;
  r.payload_ = BytesBox{std::make_shared<const std::string>(std::move(v))};
  return r;
}

Value Value::list(Items items) {
  Value r;
  r.payload_ = ListBox{std::make_shared<const Items>(std::move(items))};
  return r;
}

Value Value::tuple(Items items) {
  Value r;
  r.payload_ = TupleBox{std::make_shared<const Items>(std::move(items))};
  return r;
}

Value Value::dict(Pairs pairs) {
  Value r;
  r.payload_ = DictBox{std::make_shared<const Pairs>(std::move(pairs))};
  return r;
}

Value Value::with_kind(Kind kind, Value extra) const {
  Value r = *this;
  r.kind_ = kind;
  r.extra_ = extra.is_none() ? nullptr : std::make_shared<const Value>(std::move(extra));
  return r;
}

const Value& Value::extra() const noexcept {
  static const Value none;
  return extra_ ? *extra_ : none;
}

bool Value::as_boolean() const {
  if (const auto* v = std::get_if<bool>(&payload_)) return *v;
  fail_type("boolean", type());
}

std::int64_t Value::as_integer() const {
  if (const auto* v = std::get_if<std::int64_t>(&payload_)) return *v;
  fail_type("integer", type());
}

double Value::as_floating() const {
  if (const auto* v = std::get_if<double>(&payload_)) return *v;
  fail_type("floating", type());
}

std::complex<double> Value::as_complex() const {
  if (const auto* v = std::get_if<ComplexBox>(&payload_)) return *v->v;
  fail_type("complex", type());
}

const std::string& Value::as_text() const {
  if (const auto* v = std::get_if<TextBox>(&payload_)) return *v->v;
  fail_type("text", type());
}

const std::string& Value::as_bytes() const {
  if (const auto* v = std::get_if<BytesBox>(&payload_)) return *v->v;
  fail_type("bytes", type());
}

const Tensor& Value::as_tensor() const {
  if (const auto* v = std::get_if<std::shared_ptr<const Tensor>>(&payload_)) return **v;
  fail_type("tensor", type());
}

const Opaque& Value::as_opaque() const {
  if (const auto* v = std::get_if<std::shared_ptr<const Opaque>>(&payload_)) return **v;
  fail_type("opaque", type());
}

std::span<const Value> Value::items() const {
  if (const auto* v = std::get_if<ListBox>(&payload_)) return *v->v;
  if (const auto* v = std::get_if<TupleBox>(&payload_)) return *v->v;
  fail_type("list or tuple", type());
}

std::span<const Value::Pair> Value::pairs() const {
  if (const auto* v = std::get_if<DictBox>(&payload_)) return *v->v;
  fail_type("dict", type());
}

const Value* Value::find(std::string_view key) const {
  for (const auto& [k, v] : pairs()) {
    if (k.type() == Type::text && k.as_text() == key) return &v;
  }
  return nullptr;
}

const Value& Value::at(std::string_view key) const {
  if (const auto* v = find(key)) return *v;
  fail(ErrorCode::not_found, "the state has no key '{}'", key);
}

std::string_view to_string(Value::Type type) noexcept {
  switch (type) {
    case Value::Type::none: return "none";
    case Value::Type::boolean: return "boolean";
    case Value::Type::integer: return "integer";
    case Value::Type::floating: return "floating";
    case Value::Type::complex: return "complex";
    case Value::Type::text: return "text";
    case Value::Type::bytes: return "bytes";
    case Value::Type::list: return "list";
    case Value::Type::tuple: return "tuple";
    case Value::Type::dict: return "dict";
    case Value::Type::tensor: return "tensor";
    case Value::Type::opaque: return "opaque";
  }
  return "none";
}

}  // namespace understudy
