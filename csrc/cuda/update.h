// One share's part of one tensor: load, math, store.
#pragma once

#include "cuda/pack.h"
#include "launch/plan.h"

namespace fused_warmup {
namespace cuda {

constexpr int SHARE_THREADS = FW_SHARE_THREADS;
// Nobody needs gradients and momentum buffers again before the next step.
constexpr bool STREAMING = FW_STREAMING != 0;

// Elements [begin, end) of a tensor, and all that they share.
struct Span {
  const TensorEntry& entry;
  const Group& group;
  const StepScalars& step;
  int64_t begin, end;
  const Rates& rates;
  bool first_step;
  float inv_scale;
};

// Of LARS: with the sums of squares of the tensor's row.
struct LarsSpan : Span {
  const double* squares;
};

template <typename opmath_t>
FW_INLINE Hyper<opmath_t> hyper_of(const Span& span) {
  return make_hyper<opmath_t>(span.group, span.rates, span.first_step, span.inv_scale);
}

template <typename opmath_t>
FW_INLINE LarsHyper<opmath_t> hyper_of(const LarsSpan& span) {
  return make_hyper<opmath_t>(span.group, span.rates, span.first_step, span.inv_scale,
                              span.squares);
}

// The switches of sgd.h as variables: a branch that all threads take alike costs nothing beside the
// memory traffic. Momentum may be a constant, as it decides what is loaded.
struct Switches {
  bool unscale, write_grads, maximize, weight_decay, nesterov;
};
template <bool Momentum>
struct Options : Switches {
  static constexpr bool momentum = Momentum;
};
struct RuntimeOptions : Switches {
  bool momentum;
};

FW_INLINE Switches switches_of(const Span& span) {
  const bool unscale = span.step.grad_scale != nullptr;
  return {unscale, unscale && span.step.write_grads, span.group.maximize != 0,
          span.group.weight_decay != 0, span.group.nesterov != 0};
}

template <typename scalar_t>
struct OpMath {
  using type = float;
};
template <>
struct OpMath<double> {
  using type = double;
};

template <typename param_t, typename grad_t>
struct Pointers {
  param_t* param;
  grad_t* grad;
  param_t* momentum_buffer;
};

template <typename param_t, typename grad_t>
FW_INLINE Pointers<param_t, grad_t> operator+(const Pointers<param_t, grad_t>& at, int64_t n) {
  return {at.param + n, at.grad + n, at.momentum_buffer + n};
}

// N elements of each tensor.
template <typename param_t, typename grad_t, int N>
struct Packs {
  Pack<param_t, N> param;
  Pack<grad_t, N> grad;
  Pack<param_t, N> momentum_buffer;
};

template <int N, typename scalar_t>
FW_INLINE Pack<scalar_t, N>* pack_at(scalar_t* tensor) {
  return reinterpret_cast<Pack<scalar_t, N>*>(tensor);
}

template <typename param_t, typename grad_t, int N, typename Options>
FW_INLINE void load(const Pointers<param_t, grad_t>& at, const Options& options,
                    Packs<param_t, grad_t, N>& packs) {
  packs.param = load_pack<false>(pack_at<N>(at.param));
  packs.grad = load_pack<STREAMING>(pack_at<N>(at.grad));
  packs.momentum_buffer = {};
  if (options.momentum) {
    packs.momentum_buffer = load_pack<STREAMING>(pack_at<N>(at.momentum_buffer));
  }
}

template <typename param_t, typename grad_t, int N, typename Options>
FW_INLINE void store(const Pointers<param_t, grad_t>& at, const Options& options,
                     const Packs<param_t, grad_t, N>& packs) {
  store_pack<false>(pack_at<N>(at.param), packs.param);
  if (options.momentum) {
    store_pack<STREAMING>(pack_at<N>(at.momentum_buffer), packs.momentum_buffer);
  }
  if (options.write_grads) store_pack<false>(pack_at<N>(at.grad), packs.grad);
}

template <typename param_t, typename grad_t, int N, typename HyperT, typename Options>
FW_INLINE void update(Packs<param_t, grad_t, N>& packs, const HyperT& h, const Options& options) {
  using opmath_t = typename OpMath<param_t>::type;
  constexpr int AT_ONCE = N > 1 ? 2 : 1;  // as many as one conversion takes
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (int k = 0; k < N; k += AT_ONCE) {
    opmath_t p[AT_ONCE], g[AT_ONCE], m[AT_ONCE];
    if constexpr (AT_ONCE == 2) {
      to_floats(packs.param.values + k, p[0], p[1]);
      to_floats(packs.grad.values + k, g[0], g[1]);
      to_floats(packs.momentum_buffer.values + k, m[0], m[1]);
    } else {
      p[0] = static_cast<opmath_t>(to_float(packs.param.values[k]));
      g[0] = static_cast<opmath_t>(to_float(packs.grad.values[k]));
      m[0] = static_cast<opmath_t>(to_float(packs.momentum_buffer.values[k]));
    }
    for (int j = 0; j < AT_ONCE; ++j) sgd_update(p[j], g[j], m[j], h, options);
    if constexpr (AT_ONCE == 2) {
      from_floats(p[0], p[1], packs.param.values + k);
      from_floats(g[0], g[1], packs.grad.values + k);
      from_floats(m[0], m[1], packs.momentum_buffer.values + k);
    } else {
      from_float(p[0], packs.param.values[k]);
      from_float(g[0], packs.grad.values[k]);
      from_float(m[0], packs.momentum_buffer.values[k]);
    }
  }
}

// Updates N elements at each of COUNT places, `stride` apart. All are loaded before the first is
// stored: a store may lie where the next load reads, for all that the compiler knows, and a load
// behind one would wait until the loads before it have come.
//
// The machine code for sm_80, sm_90 and sm_100 has 6 16-byte loads in flight for float32 with
// momentum, before anything waits for one of them; 5 where gradients are smaller. An element
// costs 13 instructions in float32 and 15 in bfloat16. tests/backend/test_cuda_build.py reads it.
template <int COUNT, int N, typename param_t, typename grad_t, typename HyperT, typename Options>
FW_INLINE void update_packs(const Pointers<param_t, grad_t>& at, int64_t stride, const HyperT& h,
                            const Options& options) {
  Packs<param_t, grad_t, N> packs[COUNT];
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (int k = 0; k < COUNT; ++k) load(at + k * stride, options, packs[k]);
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (int k = 0; k < COUNT; ++k) {
    update(packs[k], h, options);
    store(at + k * stride, options, packs[k]);
  }
}

FW_INLINE bool is_aligned(const TensorEntry& entry) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(entry.param) |
                         reinterpret_cast<uintptr_t>(entry.grad) |
                         reinterpret_cast<uintptr_t>(entry.momentum_buffer);
  return bits % BYTES_PER_ACCESS == 0;
}

// `thread`: which of the SHARE_THREADS of the share. COUNT: packs of each tensor in flight.
template <typename param_t, typename grad_t, int COUNT, typename SpanT, typename Options>
FW_INLINE void update_span(const SpanT& span, int thread, const Options& options) {
  constexpr int smaller =
      sizeof(param_t) < sizeof(grad_t) ? int{sizeof(param_t)} : int{sizeof(grad_t)};
  constexpr int N = BYTES_PER_ACCESS / smaller;
  constexpr int64_t STRIDE = int64_t{SHARE_THREADS} * N;
  const auto h = hyper_of<typename OpMath<param_t>::type>(span);
  const TensorEntry& entry = span.entry;
  // Without momentum there may be no buffer: the parameter stands in, and nothing is read there.
  void* const buffer = options.momentum ? entry.momentum_buffer : entry.param;
  const Pointers<param_t, grad_t> whole{static_cast<param_t*>(entry.param),
                                        static_cast<grad_t*>(entry.grad),
                                        static_cast<param_t*>(buffer)};
  const Pointers<param_t, grad_t> tensors = whole + span.begin;
  const int64_t n = span.end - span.begin;
  int64_t done = 0;
  if (is_aligned(entry)) {
    done = n / N * N;
    int64_t left = done - int64_t{thread} * N;
    Pointers<param_t, grad_t> at = tensors + int64_t{thread} * N;
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
    for (; left > (COUNT - 1) * STRIDE; left -= COUNT * STRIDE, at = at + COUNT * STRIDE) {
      update_packs<COUNT, N>(at, STRIDE, h, options);
    }
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
    for (; COUNT > 1 && left > 0; left -= STRIDE, at = at + STRIDE) {
      update_packs<1, N>(at, STRIDE, h, options);
    }
  }
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
  for (int64_t i = done + thread; i < n; i += SHARE_THREADS) {
    update_packs<1, 1>(tensors + i, SHARE_THREADS, h, options);
  }
}

}  // namespace cuda
}  // namespace fused_warmup
