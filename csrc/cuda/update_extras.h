// One share's part of one tensor that may have an average or a master copy: update.h's work, then
// the average's and the rounded copy's.
#pragma once

#include "cuda/update.h"

namespace fused_warmup {
namespace cuda {

template <typename opmath_t>
struct ExtraOptions : RuntimeOptions {
  bool average, round;
  LerpWeight<opmath_t> weight;
};

template <typename opmath_t>
FW_INLINE ExtraOptions<opmath_t> extra_options_of(const Span& span, const Extras& extras) {
  return {{switches_of(span), span.rates.momentum != 0},
          extras.ema != nullptr && span.rates.ema_weight != 0,
          extras.rounded != nullptr,
          make_lerp_weight<opmath_t>(span.rates.ema_weight)};
}

template <typename half_t, int N>
FW_INLINE void store_rounded(void* to, int64_t i, const Pack<float, N>& values) {
  Pack<half_t, N> rounded;
  if constexpr (N > 1) {
    for (int k = 0; k < N; k += 2) {
      from_floats(values.values[k], values.values[k + 1], rounded.values + k);
    }
  } else {
    from_float(values.values[0], rounded.values[0]);
  }
  store_pack<false>(pack_at<N>(static_cast<half_t*>(to) + i), rounded);
}

// Updates N elements at each of COUNT places, from index i on and `stride` apart, loads first as
// update_packs() does.
template <int COUNT, int N, typename grad_t, typename HyperT>
FW_INLINE void update_packs_with_extras(const Pointers<float, grad_t>& tensors,
                                        const Extras& extras, int64_t i, int64_t stride,
                                        const HyperT& h, const ExtraOptions<float>& options) {
  Packs<float, grad_t, N> packs[COUNT];
  Pack<float, N> averages[COUNT];
  float* const ema = static_cast<float*>(extras.ema) + i;
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (int k = 0; k < COUNT; ++k) {
    load(tensors + (i + k * stride), options, packs[k]);
    averages[k] = {};
    if (options.average) averages[k] = load_pack<false>(pack_at<N>(ema + k * stride));
  }
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (int k = 0; k < COUNT; ++k) {
    update(packs[k], h, options);
    store(tensors + (i + k * stride), options, packs[k]);
    const Pack<float, N>& param = packs[k].param;
    if (options.round && extras.rounded_dtype == DType::BFLOAT16) {
      store_rounded<bfloat16>(extras.rounded, i + k * stride, param);
    } else if (options.round) {
      store_rounded<float16>(extras.rounded, i + k * stride, param);
    }
    if (!options.average) continue;
    for (int j = 0; j < N; ++j) {
      averages[k].values[j] = lerp(averages[k].values[j], param.values[j], options.weight);
    }
    store_pack<false>(pack_at<N>(ema + k * stride), averages[k]);
  }
}

// Parameters, or masters, of float32.
template <typename grad_t, typename SpanT>
FW_INLINE void update_span_with_extras(const SpanT& span, const Extras& extras, int thread,
                                       const ExtraOptions<float>& options) {
  constexpr int N = BYTES_PER_ACCESS / int{sizeof(grad_t)};
  constexpr int COUNT = sizeof(grad_t) == sizeof(float) ? 2 : 1;  // eight or seven loads in flight
  constexpr int64_t STRIDE = int64_t{SHARE_THREADS} * N;
  const auto h = hyper_of<float>(span);
  const TensorEntry& entry = span.entry;
  void* const buffer = options.momentum ? entry.momentum_buffer : entry.param;
  const Pointers<float, grad_t> tensors{static_cast<float*>(entry.param),
                                        static_cast<grad_t*>(entry.grad),
                                        static_cast<float*>(buffer)};
  const uintptr_t bits =
      reinterpret_cast<uintptr_t>(extras.ema) | reinterpret_cast<uintptr_t>(extras.rounded);
  int64_t done = span.begin;
  if (is_aligned(entry) && bits % BYTES_PER_ACCESS == 0) {
    done += (span.end - span.begin) / N * N;
    int64_t i = span.begin + int64_t{thread} * N;
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
    for (; i + (COUNT - 1) * STRIDE < done; i += COUNT * STRIDE) {
      update_packs_with_extras<COUNT, N>(tensors, extras, i, STRIDE, h, options);
    }
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
    for (; COUNT > 1 && i < done; i += STRIDE) {
      update_packs_with_extras<1, N>(tensors, extras, i, STRIDE, h, options);
    }
  }
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
  for (int64_t i = done + thread; i < span.end; i += SHARE_THREADS) {
    update_packs_with_extras<1, 1>(tensors, extras, i, SHARE_THREADS, h, options);
  }
}

template <typename scalar_t>
FW_INLINE auto load_one(const void* from, int64_t i) {
  return to_float(load_pack<false>(static_cast<const Pack<scalar_t, 1>*>(from) + i).values[0]);
}

template <typename scalar_t, typename opmath_t>
FW_INLINE void store_one(void* to, int64_t i, opmath_t value) {
  Pack<scalar_t, 1> pack;
  from_float(value, pack.values[0]);
  store_pack<false>(static_cast<Pack<scalar_t, 1>*>(to) + i, pack);
}

template <typename opmath_t>
FW_INLINE opmath_t load_any(DType dtype, const void* from, int64_t i) {
  switch (dtype) {
    case DType::FLOAT64:
      return static_cast<opmath_t>(load_one<double>(from, i));
    case DType::BFLOAT16:
      return static_cast<opmath_t>(load_one<bfloat16>(from, i));
    case DType::FLOAT16:
      return static_cast<opmath_t>(load_one<float16>(from, i));
    default:
      return static_cast<opmath_t>(load_one<float>(from, i));
  }
}

template <typename opmath_t>
FW_INLINE void store_any(DType dtype, void* to, int64_t i, opmath_t value) {
  switch (dtype) {
    case DType::FLOAT64:
      return store_one<double>(to, i, static_cast<double>(value));
    case DType::BFLOAT16:
      return store_one<bfloat16>(to, i, static_cast<float>(value));
    case DType::FLOAT16:
      return store_one<float16>(to, i, static_cast<float>(value));
    default:
      return store_one<float>(to, i, static_cast<float>(value));
  }
}

// Tensors of any dtypes, an element at a time: neighbours go to neighbouring threads.
template <typename opmath_t, typename SpanT>
FW_INLINE void update_any_with_extras(const SpanT& span, const Extras& extras, int thread,
                                      const ExtraOptions<opmath_t>& options) {
  const auto h = hyper_of<opmath_t>(span);
  const TensorEntry& entry = span.entry;
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
  for (int64_t i = span.begin + thread; i < span.end; i += SHARE_THREADS) {
    opmath_t p = load_any<opmath_t>(entry.param_dtype, entry.param, i);
    opmath_t g = load_any<opmath_t>(entry.grad_dtype, entry.grad, i);
    opmath_t m = 0;
    if (options.momentum) m = load_any<opmath_t>(entry.param_dtype, entry.momentum_buffer, i);
    sgd_update(p, g, m, h, options);
    store_any(entry.param_dtype, entry.param, i, p);
    if (options.momentum) store_any(entry.param_dtype, entry.momentum_buffer, i, m);
    if (options.write_grads) store_any(entry.grad_dtype, entry.grad, i, g);
    if (options.round) store_any(extras.rounded_dtype, extras.rounded, i, p);
    if (!options.average) continue;
    // A narrow parameter's average is that of its rounded values.
    const opmath_t seen = load_any<opmath_t>(entry.param_dtype, entry.param, i);
    const opmath_t before = static_cast<opmath_t>(load_one<opmath_t>(extras.ema, i));
    store_one<opmath_t>(extras.ema, i, lerp(before, seen, options.weight));
  }
}

}  // namespace cuda
}  // namespace fused_warmup
