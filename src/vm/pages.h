// Pages of this process: how large they are, and how they are made.
#pragma once

#include <cstddef>
#include <cstdint>

namespace understudy::vm {

/// What one huge page holds where small ones have 4 KiB.
inline constexpr std::uint64_t kHugePageNbytes = std::uint64_t{2} << 20;

std::uint64_t page_nbytes() noexcept;

/// madvise(2), again when a signal came. 0, or the errno.
int advise(std::byte* data, std::uint64_t nbytes, int advice) noexcept;

/// Makes the pages of [data, data + nbytes) for writing; changes no bytes. 0, or the errno;
/// EFAULT stands for what would be a SIGBUS.
int populate(std::byte* data, std::uint64_t nbytes) noexcept;

/// Whether `populate` gave this errno because the kernel is older than it (Linux 5.14).
bool is_unknown_advice(int cause) noexcept;

/// Makes huge pages of [data, data + nbytes), which begins and ends at a multiple of them.
/// 0, or the errno (Linux 6.1). Stops at the first block that is refused.
int collapse(std::byte* data, std::uint64_t nbytes) noexcept;

/// The same block by block, for the whole blocks in [begin, end); returns how many are huge now.
/// Never for protected pages.
std::uint64_t collapse_each(std::uintptr_t begin, std::uintptr_t end) noexcept;

}  // namespace understudy::vm
