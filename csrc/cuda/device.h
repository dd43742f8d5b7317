// What CUDA tells of this machine and its devices: whether the kernels run there, and how many at
// once.
#pragma once

#include <array>
#include <string>

#include "cuda/tables.h"

namespace fused_warmup {
namespace cuda {

// Empty if a device and a driver are there, else why not.
std::string unavailable_reason();

// Empty if the kernels run on a device, else why not: it may be older than all that this build has
// been compiled for.
std::string device_obstacle(int device);

// Throws std::invalid_argument where a device cannot hold the rates of so many groups.
void check_groups(int device, size_t n_groups);

// Loads a kernel onto the current device. With lazy loading its first launch would, and what loads
// code is refused while a stream is captured.
void load_kernel(const void* kernel);

// Loads all kernels that update. How many blocks of each, by DTypes, a device runs at once.
// kernel_of: see sgd.h and lars.h.
std::array<int, N_KERNELS> resident_blocks(int device, const void* (*kernel_of)(DTypes));

}  // namespace cuda
}  // namespace fused_warmup
