// Which plain data may take the place of which.
#pragma once

#include <optional>
#include <string>

#include "understudy/value.h"

namespace understudy::restore {

/// A leaf that takes its part by itself.
bool is_object(const Value& v) noexcept;
bool is_sequence(const Value& v) noexcept;
/// Its keys are attributes.
bool is_namespace(const Value& v) noexcept;

/// Nothing in it is a tensor or an object.
bool is_plain_data(const Value& v);
/// Plain data and tensors, but no parameter and no object.
bool holds_tensors_only(const Value& v);

/// True when `saved` may stand where plain `target` stands: it is of the same
/// family (number, text, bytes, sequence, dict), or one of them is None.
bool can_replace(const Value& target, const Value& saved);
/// `saved`, in the caller's kind of container.
Value replace(const Value& target, const Value& saved);

/// Named tuples whose fields have other names.
bool has_other_fields(const Value& a, const Value& b);

/// A saved number as the one element of a tensor without dimensions, if the tensor's
/// type holds it exactly, or `is_rounding_fine`. Nothing for all else.
std::optional<Tensor> as_element_of(const Tensor& target, const Value& saved,
                                    bool is_rounding_fine = false);

/// For messages: "a tensor float32 [3]", "an integer".
std::string describe(const Tensor& t);
std::string describe(const Value& v);

}  // namespace understudy::restore
