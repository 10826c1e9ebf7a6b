// A tensor's elements in C order, piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "understudy/tensor.h"

namespace understudy::inspect {

/// Copies bytes [begin, begin + out.size()) of the dense form of `tensor`.
/// `begin` and the length may cut elements.
void gather(const Tensor& tensor, std::uint64_t begin, std::span<std::byte> out);

/// The same for tensors that need not lie in memory.
using Gather =
    std::function<void(const Tensor& tensor, std::uint64_t begin, std::span<std::byte> out)>;

}  // namespace understudy::inspect
