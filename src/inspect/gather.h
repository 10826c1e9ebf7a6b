// A tensor's elements in C order, piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "understudy/tensor.h"

namespace understudy::inspect {

/// Copies bytes [begin, begin + out.size()) of the dense form of `tensor`.
/// `begin` and the length may cut elements.
void gather(const Tensor& tensor, std::uint64_t begin, std::span<std::byte> out);

}  // namespace understudy::inspect
