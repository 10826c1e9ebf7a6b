// What the machine has.
#pragma once

#include <cstdint>
#include <string>

namespace understudy::os {

/// Cores that this process may run on (affinity and control group), at least 1.
int usable_cores();

/// This process's share of them: a launcher may have started other ranks on this
/// machine (LOCAL_WORLD_SIZE). At least 1.
int cores_of_this_rank();

/// Of the threads by which one process keeps a disk busy this rank's share, as of the cores. Two
/// are left in any case, if there were as many.
int share_of_this_rank(int threads);

/// The machine's name, or the container's; "" when the system does not say.
std::string host_name();

/// Threads to copy with where the caller did not say: the cores of this rank, and
/// no more than memory can feed.
int copying_threads();

/// Seconds of processor time that all threads of this process have used so far.
double processor_seconds();

/// Bytes of memory that can still be had: the machine's and the control
/// group's, whichever is less.
std::uint64_t available_memory();

/// Throws Error(no_space) with how much is missing when `nbytes` cannot be had.
/// `what` begins the sentence.
void require_memory(const char* what, std::uint64_t nbytes);

}  // namespace understudy::os
