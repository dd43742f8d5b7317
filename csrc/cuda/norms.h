// LARS's norms on the GPU: the body of the kernel as functions of (warp, thread) that also run on
// the host, in the order of lars.h. lars.cu calls them, emulation/ walks through them.
//
// A warp adds up the chunks that begin in its share. The one that ends a tensor's last chunk, as a
// ticket tells, adds up the chunks' sums: no third launch is needed.
#pragma once

#include "cuda/kernel.h"

namespace fused_warmup {
namespace cuda {

// In shared memory, one a warp.
struct WarpSums {
  double param[SUM_LANES];
  double grad[SUM_LANES];
  bool is_last;
};

constexpr int OWN_LANES = SUM_LANES / WARP_SIZE;  // of a thread: neighbours, so as to read packs
constexpr int ROWS_IN_FLIGHT = 4;                 // packs that a thread loads before it adds them
static_assert(SHARE_THREADS == WARP_SIZE, "a warp adds up the chunks of a share");

// A chunk of tensor i, elements [begin, end).
struct Chunk {
  const TensorEntry& entry;
  int64_t begin, end;
  int64_t slot;   // of its sums
  int64_t first;  // slot of the tensor's first chunk
  int64_t count;  // chunks of the tensor
};

template <typename opmath_t>
FW_INLINE double plus_square(double sum, opmath_t value) {
  const double wide = static_cast<double>(value);
  // The square of a float32 is exact, so that this rounds once, as a product and a sum do.
  if constexpr (sizeof(opmath_t) < sizeof(double)) return ::fma(wide, wide, sum);
  return sum + wide * wide;
}

// Adds a thread's elements of a chunk to its lanes, each times `factor` if `scaled`.
template <typename opmath_t, typename scalar_t>
FW_INLINE void add_elements(const scalar_t* values, int64_t n, int thread, bool scaled,
                            opmath_t factor, double* lanes) {
  using pack_t = Pack<scalar_t, OWN_LANES>;
  const auto add = [&](double& lane, scalar_t value) {
    const opmath_t wide = static_cast<opmath_t>(to_float(value));
    lane = plus_square(lane, scaled ? wide * factor : wide);
  };
  int64_t i = int64_t{thread} * OWN_LANES;
  if (reinterpret_cast<uintptr_t>(values) % alignof(pack_t) == 0) {
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
    for (; i + (ROWS_IN_FLIGHT - 1) * SUM_LANES + OWN_LANES <= n; i += ROWS_IN_FLIGHT * SUM_LANES) {
      pack_t packs[ROWS_IN_FLIGHT];
      for (int row = 0; row < ROWS_IN_FLIGHT; ++row) {
        packs[row] =
            load_pack<false>(reinterpret_cast<const pack_t*>(values + i + row * SUM_LANES));
      }
      for (int row = 0; row < ROWS_IN_FLIGHT; ++row) {
        for (int k = 0; k < OWN_LANES; ++k) add(lanes[k], packs[row].values[k]);
      }
    }
  }
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
  for (; i < n; i += SUM_LANES) {
    for (int k = 0; k < OWN_LANES; ++k) {
      using one_t = Pack<scalar_t, 1>;
      if (i + k >= n) continue;
      add(lanes[k], load_pack<false>(reinterpret_cast<const one_t*>(values + i + k)).values[0]);
    }
  }
}

template <typename opmath_t>
FW_INLINE void add_chunk(DType dtype, const void* data, const Chunk& chunk, int thread, bool scaled,
                         float inv_scale, double* lanes) {
  const opmath_t factor = static_cast<opmath_t>(inv_scale);
  const int64_t n = chunk.end - chunk.begin;
  const auto add = [&](auto* values) {
    add_elements<opmath_t>(values + chunk.begin, n, thread, scaled, factor, lanes);
  };
  switch (dtype) {
    case DType::FLOAT32:
      return add(static_cast<const float*>(data));
    case DType::FLOAT64:
      return add(static_cast<const double*>(data));
    case DType::BFLOAT16:
      return add(static_cast<const bfloat16*>(data));
    case DType::FLOAT16:
      return add(static_cast<const float16*>(data));
  }
}

template <typename opmath_t>
FW_INLINE void sum_lanes_of(const LarsArgs& args, const Chunk& chunk, int thread, WarpSums& sums) {
  const float inv_scale = inverse_scale(args.step.grad_scale);
  const TensorEntry& entry = chunk.entry;
  double param[OWN_LANES] = {}, grad[OWN_LANES] = {};
  add_chunk<opmath_t>(entry.param_dtype, entry.param, chunk, thread, false, inv_scale, param);
  add_chunk<opmath_t>(entry.grad_dtype, entry.grad, chunk, thread, args.step.grad_scale != nullptr,
                      inv_scale, grad);
  for (int k = 0; k < OWN_LANES; ++k) {
    sums.param[thread * OWN_LANES + k] = param[k];
    sums.grad[thread * OWN_LANES + k] = grad[k];
  }
}

// Phase 1 of a chunk, every thread of a warp: its lanes.
FW_INLINE void sum_lanes(const LarsArgs& args, const Chunk& chunk, int thread, WarpSums& sums) {
  if (chunk.entry.param_dtype == DType::FLOAT64) {
    sum_lanes_of<double>(args, chunk, thread, sums);
  } else {
    sum_lanes_of<float>(args, chunk, thread, sums);
  }
}

// Phases 2 and 5, every thread, once for each half: adds the upper lanes to the lower.
FW_INLINE void add_half(int64_t half, int thread, WarpSums& sums) {
  for (int64_t lane = thread; lane < half; lane += WARP_SIZE) {
    sums.param[lane] += sums.param[lane + half];
    sums.grad[lane] += sums.grad[lane + half];
  }
}

// Phase 4, every thread, of the warp that took a tensor's last ticket: the lanes of its chunks.
// Read past the first-level cache, which knows nothing of what other multiprocessors wrote.
FW_INLINE void sum_chunks(const LarsArgs& args, const Chunk& chunk, int thread, WarpSums& sums) {
  const double* const partials = args.norms.partials + 2 * chunk.first;
  const auto read = [](const double* from) {
#ifdef __CUDA_ARCH__
    return __ldcg(from);
#else
    return *from;
#endif
  };
  for (int k = 0; k < OWN_LANES; ++k) {
    const int64_t lane = thread * OWN_LANES + k;
    double param = 0.0, grad = 0.0;
    for (int64_t i = lane; i < chunk.count; i += SUM_LANES) {
      param += read(partials + 2 * i);
      grad += read(partials + 2 * i + 1);
    }
    sums.param[lane] = param;
    sums.grad[lane] = grad;
  }
}

FW_INLINE void store_sums(const WarpSums& sums, double* to) {
  to[0] = sums.param[0];
  to[1] = sums.grad[0];
}

// Calls each(chunk) for every chunk of a share.
template <typename Each>
FW_INLINE void for_each_chunk(const LarsArgs& args, int32_t share, Each each) {
  const int64_t first = args.shares[share].begin;
  const int64_t last = args.shares[share + 1].begin;
  for (int32_t i = args.shares[share].entry; i < args.n_entries && args.line[i] < last; ++i) {
    const TensorEntry entry = args.entries[i];
    const int64_t origin = args.line[i];
    const int64_t size = chunk_size(entry.n_elements);
    const Chunks own = chunks_in(first, last, origin, entry.n_elements, size);
    const int64_t slot = first_slot(origin, i);
    for (int64_t k = own.begin; k < own.end; ++k) {
      const int64_t end = (k + 1) * size < entry.n_elements ? (k + 1) * size : entry.n_elements;
      each(Chunk{entry, k * size, end, slot + k, slot, n_chunks(entry.n_elements, size)});
    }
  }
}

}  // namespace cuda
}  // namespace fused_warmup
