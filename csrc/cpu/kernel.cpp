// The CPU kernel: sgd.h's update over a range of one tensor. Compiled once for each instruction
// set, with CPU_CAPABILITY naming the namespace (see kernel.h).
//
// One loop serves every storage type. Where the tensors already hold the arithmetic type it runs
// on them; otherwise on windows (see window.h), so the mathematics is not restated for each pair of
// types.
#include "cpu/kernel.h"

#include <type_traits>

#include "cpu/window.h"

namespace fused_warmup {
namespace CPU_CAPABILITY {
namespace {

// sgd.h's switches as constants, one loop for each combination. `maximize` stays a variable: it
// flips a sign bit, which costs a loop nothing.
template <bool Unscale, bool WriteGrad, bool WeightDecay, bool Momentum, bool Nesterov>
struct Options {
  static constexpr bool unscale = Unscale;
  static constexpr bool write_grad = Unscale && WriteGrad;
  static constexpr bool weight_decay = WeightDecay;
  static constexpr bool momentum = Momentum;
  static constexpr bool nesterov = Momentum && Nesterov;
  bool maximize;
};

template <typename opmath_t, typename HyperT>
using Loop = void (*)(opmath_t*, opmath_t*, opmath_t*, int64_t, const HyperT&, bool);

template <typename opmath_t, typename HyperT, typename Opt>
void update_loop(opmath_t* __restrict param, opmath_t* __restrict grad,
                 opmath_t* __restrict momentum_buffer, int64_t n, const HyperT& shared,
                 bool maximize) {
  const HyperT h = shared;  // a copy: no store below can be taken to change it
  const Opt options{maximize};
  for (int64_t i = 0; i < n; ++i) {
    opmath_t p = param[i];
    opmath_t g = grad[i];
    opmath_t m = Opt::momentum ? momentum_buffer[i] : opmath_t(0);
    sgd_update(p, g, m, h, options);
    param[i] = p;
    if (Opt::write_grad) grad[i] = g;
    if (Opt::momentum) momentum_buffer[i] = m;
  }
}

// Turns the switches into template arguments one by one, in the order of Options.
template <typename opmath_t, typename HyperT, bool... Known>
Loop<opmath_t, HyperT> pick_loop(const bool* switches) {
  if constexpr (sizeof...(Known) == 5) {
    return update_loop<opmath_t, HyperT, Options<Known...>>;
  } else {
    return *switches ? pick_loop<opmath_t, HyperT, Known..., true>(switches + 1)
                     : pick_loop<opmath_t, HyperT, Known..., false>(switches + 1);
  }
}

template <typename opmath_t>
void average_loop(opmath_t* __restrict ema, const opmath_t* __restrict param, int64_t n,
                  const LerpWeight<opmath_t>& shared) {
  const LerpWeight<opmath_t> weight = shared;
  for (int64_t i = 0; i < n; ++i) ema[i] = lerp(ema[i], param[i], weight);
}

// What follows the update of a block, which is in the first-level cache: the loops above stay what
// they are for tensors without extras.
template <typename opmath_t>
void update_extras(const Extras& extras, Window<opmath_t>& param, double ema_weight, int64_t i,
                   int64_t n) {
  if (extras.rounded != nullptr) {  // the parameter in the entry is a master, of opmath_t
    store(extras.rounded_dtype, extras.rounded, i, static_cast<opmath_t*>(param.data) + i, n);
  }
  if (extras.ema != nullptr && ema_weight != 0) {
    // Opened again: a narrow parameter's average is that of its rounded values.
    average_loop(static_cast<opmath_t*>(extras.ema) + i, param.open(i, n), n,
                 make_lerp_weight<opmath_t>(ema_weight));
  }
}

// Squares: none in SGD; one const double* in LARS, see make_hyper().
template <typename opmath_t, typename... Squares>
void update_typed(const TensorEntry& tensor, const Extras* extras, const Group& group,
                  const StepScalars& step, const Rates& rates, bool first_step, int64_t begin,
                  int64_t end, Squares... squares) {
  constexpr DType own = dtype_of<opmath_t>();
  const bool unscale = step.grad_scale != nullptr;
  const bool momentum = rates.momentum != 0;
  const auto h =
      make_hyper<opmath_t>(group, rates, first_step, inverse_scale(step.grad_scale), squares...);
  const bool switches[] = {unscale, step.write_grads, group.weight_decay != 0, momentum,
                           group.nesterov != 0};
  const auto loop = pick_loop<opmath_t, std::decay_t<decltype(h)>>(switches);

  if (extras == nullptr && tensor.param_dtype == own && tensor.grad_dtype == own) {
    opmath_t* buffer = static_cast<opmath_t*>(tensor.momentum_buffer);
    return loop(static_cast<opmath_t*>(tensor.param) + begin,
                static_cast<opmath_t*>(tensor.grad) + begin, momentum ? buffer + begin : nullptr,
                end - begin, h, group.maximize != 0);
  }
  Window<opmath_t> param, grad, buffer;
  param.data = tensor.param, param.dtype = tensor.param_dtype;
  grad.data = tensor.grad, grad.dtype = tensor.grad_dtype;
  buffer.data = tensor.momentum_buffer, buffer.dtype = tensor.param_dtype;
  param.in_place = buffer.in_place = tensor.param_dtype == own;
  grad.in_place = tensor.grad_dtype == own;
  for (int64_t i = begin; i < end; i += BLOCK_SIZE) {
    const int64_t n = end - i < BLOCK_SIZE ? end - i : BLOCK_SIZE;
    loop(param.open(i, n), grad.open(i, n), momentum ? buffer.open(i, n) : nullptr, n, h,
         group.maximize != 0);
    param.close(i, n);
    if (momentum) buffer.close(i, n);
    if (unscale && step.write_grads) grad.close(i, n);
    if (extras != nullptr) update_extras(*extras, param, rates.ema_weight, i, n);
  }
}

}  // namespace

void update_range(const TensorEntry& tensor, const Extras* extras, const Group& group,
                  const StepScalars& step, const Rates& rates, bool first_step, int64_t begin,
                  int64_t end) {
  if (tensor.param_dtype == DType::FLOAT64) {
    update_typed<double>(tensor, extras, group, step, rates, first_step, begin, end);
  } else {
    update_typed<float>(tensor, extras, group, step, rates, first_step, begin, end);
  }
}

void update_range_by_lars(const TensorEntry& tensor, const Extras* extras, const Group& group,
                          const StepScalars& step, const Rates& rates, bool first_step,
                          int64_t begin, int64_t end, const double* squares) {
  if (tensor.param_dtype == DType::FLOAT64) {
    update_typed<double>(tensor, extras, group, step, rates, first_step, begin, end, squares);
  } else {
    update_typed<float>(tensor, extras, group, step, rates, first_step, begin, end, squares);
  }
}

}  // namespace CPU_CAPABILITY
}  // namespace fused_warmup
