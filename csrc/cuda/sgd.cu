// The CUDA kernels. Their body is in kernel.h; launcher.cpp launches them. Compiled by plain nvcc:
//   nvcc -O3 -std=c++17 -fmad=false -gencode arch=compute_90,code=sm_90 -Icsrc -c csrc/cuda/sgd.cu
#include "cuda/sgd.h"

#include "cuda/block.h"

namespace fused_warmup {
namespace cuda {
namespace {

template <typename DTypes>
__global__ void __launch_bounds__(BLOCK_SIZE, DTypes::MIN_BLOCKS)
    sgd_kernel(const __grid_constant__ LaunchArgs args) {
  extern __shared__ Rates rates[];
  update_block<DTypes>(args, rates);
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
      return sgd_kernel<Mixed>;
    case DTypes::FLOAT32_EXTRAS:
      return sgd_kernel<Float32WithExtras>;
    case DTypes::MIXED_EXTRAS:
      break;
  }
  return sgd_kernel<MixedWithExtras>;
}

}  // namespace

const void* kernel_for(DTypes dtypes) { return reinterpret_cast<const void*>(choose(dtypes)); }

}  // namespace cuda
}  // namespace fused_warmup
