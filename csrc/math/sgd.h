// One element's update, for every native kernel, on host and device.
//
// The order and the roundings are those of torch.optim.SGD's single-tensor loop, whose
// `add(x, alpha=a)` is a fused multiply-add: each fmadd below is rounded once, every other
// product on its own. Sources are compiled with contraction off, so the compiler adds no other.
#pragma once

#include "math/schedule.h"

namespace fused_warmup {

#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FW_HAS_FMA
#endif

// a * b + c, rounded once wherever torch's own kernels round once. Baseline x86-64 has no such
// instruction; torch's kernels for it round twice, and so does this.
FW_INLINE float fmadd(float a, float b, float c) {
#ifdef FW_HAS_FMA
  return ::fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

FW_INLINE double fmadd(double a, double b, double c) {
#ifdef FW_HAS_FMA
  return ::fma(a, b, c);
#else
  return a * b + c;
#endif
}

// What a group's elements share during one step, in the type that the arithmetic uses.
template <typename opmath_t>
struct Hyper {
  opmath_t neg_lr;
  opmath_t weight_decay;
  opmath_t momentum;
  opmath_t grad_weight;  // 1 - dampening; 1 on a parameter's own first applied step
  opmath_t inv_scale;    // 1 / grad_scale
};

// What a tensor's own rate makes of its gradient: nothing in SGD. LARS has another, see lars.h.
template <typename opmath_t>
FW_INLINE opmath_t scaled(opmath_t d, const Hyper<opmath_t>&) {
  return d;
}

// `Options` carries the five switches, as constants where a loop is specialised for them and as
// variables where it is not: unscale, maximize, weight_decay, momentum, nesterov.
// `grad` comes back unscaled, as GradScaler.unscale_ would leave it.
template <typename opmath_t, typename HyperT, typename Options>
FW_INLINE void sgd_update(opmath_t& param, opmath_t& grad, opmath_t& momentum_buffer,
                          const HyperT& h, const Options& options) {
  if (options.unscale) grad = grad * h.inv_scale;
  opmath_t d = options.maximize ? -grad : grad;
  if (options.weight_decay) d = fmadd(h.weight_decay, param, d);
  d = scaled(d, h);
  if (options.momentum) {
    momentum_buffer = fmadd(h.grad_weight, d, h.momentum * momentum_buffer);
    d = options.nesterov ? fmadd(h.momentum, momentum_buffer, d) : momentum_buffer;
  }
  param = fmadd(h.neg_lr, d, param);
}

// torch.lerp's weight in the form that one multiply-add takes.
template <typename opmath_t>
struct LerpWeight {
  opmath_t coefficient;
  bool from_end;
};

template <typename opmath_t>
FW_INLINE LerpWeight<opmath_t> make_lerp_weight(double weight) {
  const opmath_t w = static_cast<opmath_t>(weight);
  // Counted from the nearer end, as ATen/native/Lerp.h has it.
  const bool from_end = ::fabs(w) >= opmath_t(0.5);
  return {from_end ? w - opmath_t(1) : w, from_end};
}

// torch.lerp(start, end, weight): what an average becomes that `end`, the parameter, goes into.
template <typename opmath_t>
FW_INLINE opmath_t lerp(opmath_t start, opmath_t end, const LerpWeight<opmath_t>& weight) {
  return fmadd(weight.coefficient, end - start, weight.from_end ? end : start);
}

}  // namespace fused_warmup
