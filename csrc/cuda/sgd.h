// The CUDA kernels, as the launcher sees them: what cudaLaunchKernel takes. sgd.cu has them; tests
// of the launcher link others.
#pragma once

#include "cuda/tables.h"

namespace fused_warmup {
namespace cuda {

// The kernel of a launch whose tensors hold `dtypes`. Its one argument is a LaunchArgs by value; it
// wants blocks of BLOCK_SIZE threads and Tables::shared_bytes() of shared memory.
const void* kernel_for(DTypes dtypes);

}  // namespace cuda
}  // namespace fused_warmup
