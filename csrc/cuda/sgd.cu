// The CUDA kernels. Their body is in kernel.h; launcher.cpp launches them. Compiled by plain nvcc:
//   nvcc -O3 -std=c++17 -fmad=false -gencode arch=compute_90,code=sm_90 -Icsrc -c csrc/cuda/sgd.cu
#include "cuda/sgd.h"

namespace fused_warmup {
namespace cuda {
namespace {

template <typename DTypes>
__global__ void __launch_bounds__(BLOCK_SIZE, DTypes::MIN_BLOCKS)
    sgd_kernel(const __grid_constant__ LaunchArgs args) {
  extern __shared__ Rates rates[];
  const int thread = static_cast<int>(threadIdx.x);
  const int share = static_cast<int>(blockIdx.x) * SHARES_PER_BLOCK + thread / SHARE_THREADS;
  const bool skipped = is_skipped(args);
  const int64_t t = *args.step.t;
  prefetch_share<DTypes>(args, share, thread % SHARE_THREADS);
  if (skipped) return;
  compute_rates(args, t, thread, rates);
  __syncthreads();
  update_share<DTypes>(args, t, share, thread % SHARE_THREADS, rates);
  __syncthreads();
  // Every block has read t before it gets here, so the last to take a ticket may move it on.
  // atomicInc wraps to 0 by itself, ready for the next launch.
  if (thread == 0 && atomicInc(args.ticket, gridDim.x - 1) == gridDim.x - 1) {
    finish(args, t, rates);
  }
}

using Kernel = void (*)(LaunchArgs);

Kernel choose(DTypes dtypes) {
  switch (dtypes) {
    case DTypes::FLOAT32:
      return sgd_kernel<Uniform<float, float>>;
    case DTypes::BFLOAT16:
      return sgd_kernel<Uniform<bfloat16, bfloat16>>;
    case DTypes::FLOAT16:
      return sgd_kernel<Uniform<float16, float16>>;
    case DTypes::FLOAT32_BFLOAT16:
      return sgd_kernel<Uniform<float, bfloat16>>;
    case DTypes::FLOAT32_FLOAT16:
      return sgd_kernel<Uniform<float, float16>>;
    case DTypes::MIXED:
      break;
  }
  return sgd_kernel<Mixed>;
}

}  // namespace

const void* kernel_for(DTypes dtypes) { return reinterpret_cast<const void*>(choose(dtypes)); }

}  // namespace cuda
}  // namespace fused_warmup
