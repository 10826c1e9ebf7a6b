// Elements of one type become elements of another.
#pragma once

#include "understudy/tensor.h"

namespace understudy::transfer {

/// True between real numbers of any kind (booleans are numbers), and from any
/// number to a complex one. Not from complex to real, and never for types that
/// only say how many bits there are.
bool can_convert(DType from, DType to) noexcept;

/// Converts every element, as torch's copy_ does: floats to the nearest, to integers
/// towards zero (here also: what does not fit to the nearest that does, NaN to 0).
/// The shapes are equal and can_convert(from.dtype(), to.dtype()).
void convert_tensor(const Tensor& from, const Tensor& to);

}  // namespace understudy::transfer
