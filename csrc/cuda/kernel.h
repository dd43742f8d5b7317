// The body of the CUDA kernel, as functions of (share, thread) that also run on the host: sgd.cu's
// kernels call them, emulation/ walks through all blocks and threads so that tests need no GPU.
//
// SHARE_THREADS do one share of the line that line.h makes of the work.
#pragma once

#include "cuda/update_extras.h"
#include "launch/norms.h"

namespace fused_warmup {
namespace cuda {

constexpr int BLOCK_SIZE = FW_BLOCK_SIZE;
constexpr int WARP_SIZE = 32;
constexpr int SHARES_PER_BLOCK = BLOCK_SIZE / SHARE_THREADS;

// One launch, by value. Everything it points to is device memory.
struct LaunchArgs {
  const TensorEntry* entries;
  const Extras* extras;  // as many, or null
  const int64_t* line;   // n_entries + 1 positions
  const Share* shares;   // one for each SHARE_THREADS, and one more
  const Group* groups;
  int32_t n_entries;
  int32_t n_groups;
  const Schedule* schedules;
  StepScalars step;
  uint32_t* ticket;  // blocks that are through; back at 0 when the launch ends
};

// One launch of LARS: where its norms are, too.
struct LarsArgs : LaunchArgs {
  Norms norms;
};

FW_INLINE bool is_skipped(const LaunchArgs& args) {
  return args.step.found_inf != nullptr && *args.step.found_inf != 0.0f;
}

// What a launch's tensors hold. Launches of one pair of dtypes get a kernel of their own, which
// needs fewer registers; `Mixed` looks at each tensor.
template <typename param_t, typename grad_t>
struct Uniform {
  static constexpr int TRACKS = 2;
  // Threads that a multiprocessor shall hold at a time: bounds a thread to 80 registers, or 128.
  // With fewer, the compiler moves the second pack's loads behind the first pack's arithmetic.
  static constexpr int MIN_THREADS = sizeof(param_t) < 4 ? 512 : FW_MIN_THREADS;
  static constexpr int MIN_BLOCKS = MIN_THREADS / BLOCK_SIZE;
  // A pack of 8 elements is two accesses already where they are float32.
  static constexpr int COUNT =
      sizeof(param_t) == sizeof(grad_t) ? FW_PACKS_IN_FLIGHT : (FW_PACKS_IN_FLIGHT + 1) / 2;

  FW_INLINE int64_t param_size(const TensorEntry&) { return sizeof(param_t); }
  FW_INLINE int64_t grad_size(const TensorEntry&) { return sizeof(grad_t); }
  template <typename SpanT>
  FW_INLINE void update(const SpanT& span, int thread) {
    const Switches switches = switches_of(span);
    if (span.rates.momentum != 0) {
      update_span<param_t, grad_t, COUNT>(span, thread, Options<true>{switches});
    } else {
      update_span<param_t, grad_t, COUNT>(span, thread, Options<false>{switches});
    }
  }
};

struct Mixed {
  static constexpr int TRACKS = 2;
  static constexpr int MIN_BLOCKS = 512 / BLOCK_SIZE;

  FW_INLINE int64_t param_size(const TensorEntry& entry) { return size_of(entry.param_dtype); }
  FW_INLINE int64_t grad_size(const TensorEntry& entry) { return size_of(entry.grad_dtype); }
  template <typename param_t, typename SpanT>
  FW_INLINE void update_grad(const SpanT& span, int thread) {
    const RuntimeOptions options{switches_of(span), span.rates.momentum != 0};
    switch (span.entry.grad_dtype) {
      case DType::FLOAT32:
        return update_span<param_t, float, 1>(span, thread, options);
      case DType::FLOAT64:
        return update_span<param_t, double, 1>(span, thread, options);
      case DType::BFLOAT16:
        return update_span<param_t, bfloat16, 1>(span, thread, options);
      case DType::FLOAT16:
        return update_span<param_t, float16, 1>(span, thread, options);
    }
  }
  template <typename SpanT>
  FW_INLINE void update(const SpanT& span, int thread) {
    switch (span.entry.param_dtype) {
      case DType::FLOAT32:
        return update_grad<float>(span, thread);
      case DType::FLOAT64:
        return update_grad<double>(span, thread);
      case DType::BFLOAT16:
        return update_grad<bfloat16>(span, thread);
      case DType::FLOAT16:
        return update_grad<float16>(span, thread);
    }
  }
};

// The kernels of launches with extras, all of whose switches are variables.
struct WithExtras {
  static constexpr int TRACKS = 4;
  static constexpr int MIN_BLOCKS = 512 / BLOCK_SIZE;

  FW_INLINE int64_t param_size(const TensorEntry& entry) { return size_of(entry.param_dtype); }
  FW_INLINE int64_t grad_size(const TensorEntry& entry) { return size_of(entry.grad_dtype); }
};

struct Float32WithExtras : WithExtras {
  template <typename SpanT>
  FW_INLINE void update(const SpanT& span, const Extras& extras, int thread) {
    const auto options = extra_options_of<float>(span, extras);
    switch (span.entry.grad_dtype) {
      case DType::BFLOAT16:
        return update_span_with_extras<bfloat16>(span, extras, thread, options);
      case DType::FLOAT16:
        return update_span_with_extras<float16>(span, extras, thread, options);
      default:
        return update_span_with_extras<float>(span, extras, thread, options);
    }
  }
};

struct MixedWithExtras : WithExtras {
  template <typename SpanT>
  FW_INLINE void update(const SpanT& span, const Extras& extras, int thread) {
    if (span.entry.param_dtype == DType::FLOAT64) {
      update_any_with_extras<double>(span, extras, thread, extra_options_of<double>(span, extras));
    } else {
      update_any_with_extras<float>(span, extras, thread, extra_options_of<float>(span, extras));
    }
  }
};

// Where a share, which is [first, last) of the line, lies in tensor i.
struct Cut {
  int64_t begin, end;
};

FW_INLINE Cut cut_of(const LaunchArgs& args, int64_t first, int64_t last, int32_t i) {
  const int64_t origin = args.line[i];
  const int64_t n_elements = args.entries[i].n_elements;
  return {cut_at(first, origin, n_elements), end_at(last, origin, args.line[i + 1], n_elements)};
}

// Asks for what the threads of a share read first of tensor i, if it goes that far.
template <typename DTypes>
FW_INLINE void prefetch_tensor(const LaunchArgs& args, int64_t first, int64_t last, int32_t i,
                               int thread) {
  if (i >= args.n_entries || args.line[i] >= last) return;
  const TensorEntry& entry = args.entries[i];
  const Cut cut = cut_of(args, first, last, i);
  const auto ask = [&](const void* tensor, int64_t size) {
    const int64_t offset = cut.begin * size + thread * FW_PACKS_IN_FLIGHT * BYTES_PER_ACCESS;
    if (tensor != nullptr && offset < cut.end * size) {
      prefetch(static_cast<const char*>(tensor) + offset);
    }
  };
  ask(entry.param, DTypes::param_size(entry));
  ask(entry.grad, DTypes::grad_size(entry));
  ask(entry.momentum_buffer, DTypes::param_size(entry));
}

// Before phase 1, every thread of a block: memory answers while the rates are worked out.
template <typename DTypes>
FW_INLINE void prefetch_share(const LaunchArgs& args, int32_t share, int thread) {
  const Share& own = args.shares[share];
  prefetch_tensor<DTypes>(args, own.begin, args.shares[share + 1].begin, own.entry, thread);
}

// Phase 1, every thread of a block: the rates of all groups, once a block. Neighbours do one group,
// its learning rate, its momentum and, with extras, the weight in its averages: the code of the
// schedules is there once, and all are worked out at the same time. Of four neighbours one idles.
template <typename DTypes>
FW_INLINE void compute_rates(const LaunchArgs& args, int64_t t, int thread, Rates* rates) {
  constexpr int TRACKS = DTypes::TRACKS;
  for (int32_t i = thread; i < TRACKS * args.n_groups; i += BLOCK_SIZE) {
    const int track = i % TRACKS;
    if (track == 3) continue;
    Rates& own = rates[i / TRACKS];
    (track == 0   ? own.lr
     : track == 1 ? own.momentum
                  : own.ema_weight) = track_at(args.groups[i / TRACKS], args.schedules, t, track);
  }
}

// A span as its launch's update takes it.
FW_INLINE const Span& span_for(const LaunchArgs&, const Span& span) { return span; }
FW_INLINE LarsSpan span_for(const LarsArgs& args, const Span& span) {
  return {span, args.norms.squares + 2 * span.entry.row};
}

// Phase 2, every thread of a block, after all of it finished phase 1: a share of the work. Args:
// LaunchArgs, or LarsArgs.
template <typename DTypes, typename Args>
FW_INLINE void update_share(const Args& args, int64_t t, int32_t share, int thread,
                            const Rates* rates) {
  const int64_t first = args.shares[share].begin;
  const int64_t last = args.shares[share + 1].begin;
  const float inv_scale = inverse_scale(args.step.grad_scale);

  for (int32_t i = args.shares[share].entry; i < args.n_entries && args.line[i] < last; ++i) {
    const Cut cut = cut_of(args, first, last, i);
    prefetch_tensor<DTypes>(args, first, last, i + 1, thread);
    if (cut.begin >= cut.end) continue;
    const TensorEntry entry = args.entries[i];
    const Rates& own = rates[entry.group];
    const bool first_step = is_first_step(entry.first_step, t);
    const Span span{
        entry, args.groups[entry.group], args.step, cut.begin, cut.end, own, first_step, inv_scale};
    // Every share that meets the mark writes the same t; see TensorEntry::first_step.
    if (thread == 0 && is_marked_now(entry.first_step, own)) *entry.first_step = t;
    if constexpr (DTypes::TRACKS == 2) {
      DTypes::update(span_for(args, span), thread);
    } else {
      DTypes::update(span_for(args, span), args.extras[i], thread);
    }
  }
}

// Phase 3, one thread of the block whose ticket is the last: all others have read t by then.
FW_INLINE void finish(const LaunchArgs& args, int64_t t, const Rates* rates) {
  for (int32_t g = 0; g < args.n_groups; ++g) put_rate(args.step, g, rates[g].lr);
  if (args.step.advance) *args.step.t = next_count(t);
}

}  // namespace cuda
}  // namespace fused_warmup
