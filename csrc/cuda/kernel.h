// The body of the CUDA kernel, as functions of (block, thread) that also run on the host:
// sgd.cu's kernels call them, emulation/ walks through all blocks and threads so that tests need no
// GPU.
//
// Each warp does one share of the line that line.h makes of the work.
#pragma once

#include "launch/line.h"
#include "math/half.h"

namespace fused_warmup {
namespace cuda {

constexpr int BLOCK_SIZE = 256;
constexpr int WARP_SIZE = 32;
constexpr int WARPS_PER_BLOCK = BLOCK_SIZE / WARP_SIZE;
constexpr int BYTES_PER_ACCESS = 16;

// One launch, by value. Everything it points to is device memory.
struct LaunchArgs {
  const TensorEntry* entries;
  const int64_t* line;  // n_entries + 1 positions
  const Share* shares;  // one a warp, and one more
  const Group* groups;
  int32_t n_entries;
  int32_t n_groups;
  const Schedule* schedules;
  StepScalars step;
  uint32_t* ticket;  // blocks that are through; back at 0 when the launch ends
};

// The five switches of sgd.h as variables: a branch that all threads take alike costs nothing
// beside the memory traffic.
struct RuntimeOptions {
  bool unscale, maximize, weight_decay, momentum, nesterov;
};

FW_INLINE RuntimeOptions options_of(const Group& group, const Rates& rates,
                                    const StepScalars& step) {
  return {step.grad_scale != nullptr, group.maximize != 0, group.weight_decay != 0,
          rates.momentum != 0, group.nesterov != 0};
}

FW_INLINE bool is_skipped(const LaunchArgs& args) {
  return args.step.found_inf != nullptr && *args.step.found_inf != 0.0f;
}

// Phase 1, every thread of a block: the rates of all groups, once a block.
FW_INLINE void compute_rates(const LaunchArgs& args, int64_t t, int thread, Rates* rates) {
  for (int32_t g = thread; g < args.n_groups; g += BLOCK_SIZE) {
    rates[g] = rates_at(args.groups[g], args.schedules, t);
  }
}

template <typename scalar_t>
struct OpMath {
  using type = float;
};
template <>
struct OpMath<double> {
  using type = double;
};

FW_INLINE float to_float(float x) { return x; }
FW_INLINE double to_float(double x) { return x; }
FW_INLINE void from_float(float x, float& out) { out = x; }
FW_INLINE void from_float(double x, double& out) { out = x; }
using fused_warmup::from_float;  // of half.h
using fused_warmup::to_float;

// N neighbouring elements, loaded and stored 16 bytes at a time.
template <typename scalar_t, int N>
struct alignas(N * sizeof(scalar_t) < BYTES_PER_ACCESS ? N * sizeof(scalar_t) : BYTES_PER_ACCESS)
    Pack {
  scalar_t values[N];
};

template <typename scalar_t, int N>
FW_INLINE Pack<scalar_t, N>* pack_at(void* tensor, int64_t i) {
  return reinterpret_cast<Pack<scalar_t, N>*>(static_cast<scalar_t*>(tensor) + i);
}

// Updates elements [i, i + N) of a tensor.
template <typename param_t, typename grad_t, int N>
FW_INLINE void update_elements(const TensorEntry& entry, int64_t i, const StepScalars& step,
                               const Hyper<typename OpMath<param_t>::type>& h,
                               const RuntimeOptions& options) {
  using opmath_t = typename OpMath<param_t>::type;
  using ParamPack = Pack<param_t, N>;
  using GradPack = Pack<grad_t, N>;
  ParamPack* param_ptr = pack_at<param_t, N>(entry.param, i);
  GradPack* grad_ptr = pack_at<grad_t, N>(entry.grad, i);
  ParamPack* buffer_ptr = pack_at<param_t, N>(entry.momentum_buffer, i);

  // load
  ParamPack param = *param_ptr;
  GradPack grad = *grad_ptr;
  ParamPack buffer{};
  if (options.momentum) buffer = *buffer_ptr;

  // math
  for (int k = 0; k < N; ++k) {
    opmath_t p = static_cast<opmath_t>(to_float(param.values[k]));
    opmath_t g = static_cast<opmath_t>(to_float(grad.values[k]));
    opmath_t m = static_cast<opmath_t>(to_float(buffer.values[k]));
    sgd_update(p, g, m, h, options);
    from_float(p, param.values[k]);
    from_float(g, grad.values[k]);
    from_float(m, buffer.values[k]);
  }

  // store
  *param_ptr = param;
  if (options.momentum) *buffer_ptr = buffer;
  if (options.unscale && step.write_grads) *grad_ptr = grad;
}

FW_INLINE bool is_aligned(const TensorEntry& entry) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(entry.param) |
                         reinterpret_cast<uintptr_t>(entry.grad) |
                         reinterpret_cast<uintptr_t>(entry.momentum_buffer);
  return bits % BYTES_PER_ACCESS == 0;
}

// One warp's part of one tensor: elements [begin, end) and all that they share.
struct Span {
  const TensorEntry& entry;
  const Group& group;
  const StepScalars& step;
  int64_t begin, end;
  const Rates& rates;
  bool first_step;
  float inv_scale;
};

template <typename param_t, typename grad_t>
FW_INLINE void update_span(const Span& span, int lane) {
  constexpr int smaller =
      sizeof(param_t) < sizeof(grad_t) ? int{sizeof(param_t)} : int{sizeof(grad_t)};
  constexpr int N = BYTES_PER_ACCESS / smaller;
  const auto h = make_hyper<typename OpMath<param_t>::type>(span.group, span.rates, span.first_step,
                                                            span.inv_scale);
  const RuntimeOptions options = options_of(span.group, span.rates, span.step);
  int64_t tail = span.begin;
  if (is_aligned(span.entry)) {
    tail += (span.end - span.begin) / N * N;
    // Two accesses of each tensor in flight where registers allow, one where a pack holds more
    // elements than 4.
#ifdef __CUDA_ARCH__
#pragma unroll(N > 4 ? 1 : 2)
#endif
    for (int64_t i = span.begin + lane * N; i < tail; i += WARP_SIZE * N) {
      update_elements<param_t, grad_t, N>(span.entry, i, span.step, h, options);
    }
  }
  for (int64_t i = tail + lane; i < span.end; i += WARP_SIZE) {
    update_elements<param_t, grad_t, 1>(span.entry, i, span.step, h, options);
  }
}

// What a launch's tensors hold. Launches of one pair of dtypes get a kernel of their own, which
// needs fewer registers; `Mixed` looks at each tensor.
template <typename param_t, typename grad_t>
struct Uniform {
  // A multiprocessor; bounds registers to 64 a thread, or 80 where a pack holds 8 elements.
  static constexpr int MIN_BLOCKS = sizeof(param_t) < 4 ? 3 : 4;
  FW_INLINE void update(const Span& span, int lane) { update_span<param_t, grad_t>(span, lane); }
};

struct Mixed {
  static constexpr int MIN_BLOCKS = 2;
  template <typename param_t>
  FW_INLINE void update_grad(const Span& span, int lane) {
    switch (span.entry.grad_dtype) {
      case DType::FLOAT32:
        return update_span<param_t, float>(span, lane);
      case DType::FLOAT64:
        return update_span<param_t, double>(span, lane);
      case DType::BFLOAT16:
        return update_span<param_t, bfloat16>(span, lane);
      case DType::FLOAT16:
        return update_span<param_t, float16>(span, lane);
    }
  }
  FW_INLINE void update(const Span& span, int lane) {
    switch (span.entry.param_dtype) {
      case DType::FLOAT32:
        return update_grad<float>(span, lane);
      case DType::FLOAT64:
        return update_grad<double>(span, lane);
      case DType::BFLOAT16:
        return update_grad<bfloat16>(span, lane);
      case DType::FLOAT16:
        return update_grad<float16>(span, lane);
    }
  }
};

// Phase 2, every thread of a block, after all of it finished phase 1: a warp's share of the work.
template <typename DTypes>
FW_INLINE void update_share(const LaunchArgs& args, int64_t t, int32_t warp, int lane,
                            const Rates* rates) {
  const int64_t first = args.shares[warp].begin;
  const int64_t last = args.shares[warp + 1].begin;
  const float inv_scale = inverse_scale(args.step.grad_scale);

  for (int32_t i = args.shares[warp].entry; i < args.n_entries && args.line[i] < last; ++i) {
    const TensorEntry entry = args.entries[i];
    const int64_t begin = cut_at(first, args.line[i], entry.n_elements);
    const int64_t end = end_at(last, args.line[i], args.line[i + 1], entry.n_elements);
    if (begin >= end) continue;
    const Rates& own = rates[entry.group];
    const bool first_step = is_first_step(entry.first_step, t);
    const Span span{entry,    args.groups[entry.group], args.step, begin, end, own, first_step,
                    inv_scale};
    DTypes::update(span, lane);
    // Every warp that meets the mark writes the same t; see TensorEntry::first_step.
    if (lane == 0 && is_marked_now(entry.first_step, own)) *entry.first_step = t;
  }
}

// Phase 3, one thread of the block whose ticket is the last: all others have read t by then.
FW_INLINE void finish(const LaunchArgs& args, int64_t t, const Rates* rates) {
  for (int32_t g = 0; g < args.n_groups; ++g) args.step.lr[g] = rates[g].lr;
  if (args.step.advance) *args.step.t = next_count(t);
}

}  // namespace cuda
}  // namespace fused_warmup
