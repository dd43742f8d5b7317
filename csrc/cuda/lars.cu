// The CUDA kernels of LARS. Their bodies are in norms.h and kernel.h; launcher.cpp launches them.
//   nvcc -O3 -std=c++17 -fmad=false -gencode arch=compute_90,code=sm_90 -Icsrc -c csrc/cuda/lars.cu
#include "cuda/lars.h"

#include "cuda/block.h"

namespace fused_warmup {
namespace cuda {
namespace {

__device__ void add_halves(int64_t n, int thread, WarpSums& sums) {
  for (int64_t half = first_half(n); half > 0; half /= 2) {
    __syncwarp();
    add_half(half, thread, sums);
  }
  __syncwarp();
}

__global__ void __launch_bounds__(BLOCK_SIZE, 512 / BLOCK_SIZE)
    sum_squares_kernel(const __grid_constant__ LarsArgs args) {
  extern __shared__ WarpSums all_sums[];
  if (is_skipped(args)) return;
  const int thread = static_cast<int>(threadIdx.x) % WARP_SIZE;
  const int warp = static_cast<int>(threadIdx.x) / WARP_SIZE;
  WarpSums& sums = all_sums[warp];
  const int32_t share = static_cast<int32_t>(blockIdx.x) * SHARES_PER_BLOCK + warp;
  for_each_chunk(args, share, [&](const Chunk& chunk) {
    sum_lanes(args, chunk, thread, sums);
    add_halves(chunk.end - chunk.begin, thread, sums);
    if (thread == 0) {
      store_sums(sums, args.norms.partials + 2 * chunk.slot);
      // Whoever takes the last ticket sees the sums of all who took one before.
      __threadfence();
      const uint32_t last = static_cast<uint32_t>(chunk.count - 1);
      sums.is_last = atomicInc(args.norms.tickets + chunk.entry.row, last) == last;
    }
    __syncwarp();
    if (!sums.is_last) return;
    __threadfence();
    sum_chunks(args, chunk, thread, sums);
    add_halves(chunk.count, thread, sums);
    if (thread == 0) store_sums(sums, args.norms.squares + 2 * chunk.entry.row);
    __syncwarp();
  });
}

template <typename DTypes>
__global__ void __launch_bounds__(BLOCK_SIZE, DTypes::MIN_BLOCKS)
    lars_kernel(const __grid_constant__ LarsArgs args) {
  extern __shared__ Rates rates[];
  update_block<DTypes>(args, rates);
}

}  // namespace

const void* norms_kernel() { return reinterpret_cast<const void*>(&sum_squares_kernel); }

const void* lars_kernel_for(DTypes dtypes) {
  using Kernel = void (*)(LarsArgs);
  Kernel kernel = lars_kernel<Mixed>;
  if (dtypes == DTypes::FLOAT32) kernel = lars_kernel<Uniform<float, float>>;
  if (dtypes >= DTypes::FLOAT32_EXTRAS) kernel = lars_kernel<MixedWithExtras>;
  return reinterpret_cast<const void*>(kernel);
}

}  // namespace cuda
}  // namespace fused_warmup
