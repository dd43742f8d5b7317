// What a block does in a launch that updates, with the barriers that kernel.h's phases need.
#pragma once

#include "cuda/kernel.h"

namespace fused_warmup {
namespace cuda {

template <typename DTypes, typename Args>
__device__ __forceinline__ void update_block(const Args& args, Rates* rates) {
  const int thread = static_cast<int>(threadIdx.x);
  const int share = static_cast<int>(blockIdx.x) * SHARES_PER_BLOCK + thread / SHARE_THREADS;
  const bool skipped = is_skipped(args);
  const int64_t t = *args.step.t;
  prefetch_share<DTypes>(args, share, thread % SHARE_THREADS);
  if (skipped) return;
  compute_rates<DTypes>(args, t, thread, rates);
  __syncthreads();
  update_share<DTypes>(args, t, share, thread % SHARE_THREADS, rates);
  __syncthreads();
  // Every block has read t before it gets here, so the last to take a ticket may move it on.
  // atomicInc wraps to 0 by itself, ready for the next launch.
  if (thread == 0 && atomicInc(args.ticket, gridDim.x - 1) == gridDim.x - 1) {
    finish(args, t, rates);
  }
}

}  // namespace cuda
}  // namespace fused_warmup
