// The kernels of LARS, as the launcher sees them: what cudaLaunchKernel takes. lars.cu has them;
// tests of the launcher link others.
#pragma once

#include "cuda/norms.h"
#include "cuda/tables.h"

namespace fused_warmup {
namespace cuda {

constexpr size_t NORMS_SHARED_BYTES = (BLOCK_SIZE / WARP_SIZE) * sizeof(WarpSums);

// The first launch. Its one argument is a LarsArgs by value; it wants blocks of BLOCK_SIZE threads
// and NORMS_SHARED_BYTES of shared memory.
const void* norms_kernel();

// The second, in SGD's place: see kernel_for() in sgd.h, but its argument is a LarsArgs, too.
const void* lars_kernel_for(DTypes dtypes);

}  // namespace cuda
}  // namespace fused_warmup
