// The CPU kernel: sgd.h's update over a range of one tensor. Compiled once for each instruction
// set, with CPU_CAPABILITY naming the namespace (see cpu_kernel.h).
//
// One loop serves every storage type. Where the tensors already hold the arithmetic type it runs
// on them; otherwise blocks are widened into the first-level cache, updated there and narrowed
// back, so the mathematics is not restated for each pair of types.
#include "cpu/kernel.h"
#include "math/half.h"

namespace fused_warmup {
namespace CPU_CAPABILITY {
namespace {

constexpr int64_t BLOCK_SIZE = 1024;  // three blocks of float64 are 24 KiB: they fit in L1

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

template <typename opmath_t>
using Loop = void (*)(opmath_t*, opmath_t*, opmath_t*, int64_t, const Hyper<opmath_t>&, bool);

template <typename opmath_t, typename Opt>
void update_loop(opmath_t* __restrict param, opmath_t* __restrict grad,
                 opmath_t* __restrict momentum_buffer, int64_t n, const Hyper<opmath_t>& shared,
                 bool maximize) {
  const Hyper<opmath_t> h = shared;  // a copy: no store below can be taken to change it
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
template <typename opmath_t, bool... Known>
Loop<opmath_t> pick_loop(const bool* switches) {
  if constexpr (sizeof...(Known) == 5) {
    return update_loop<opmath_t, Options<Known...>>;
  } else {
    return *switches ? pick_loop<opmath_t, Known..., true>(switches + 1)
                     : pick_loop<opmath_t, Known..., false>(switches + 1);
  }
}

// float32 and float64 convert as the language does.
static inline float to_float(float x) { return x; }
static inline double to_float(double x) { return x; }
static inline void from_float(float x, float& out) { out = x; }
static inline void from_float(double x, double& out) { out = x; }

template <typename scalar_t, typename opmath_t>
void widen(const void* from, int64_t offset, opmath_t* __restrict to, int64_t n) {
  const scalar_t* __restrict source = static_cast<const scalar_t*>(from) + offset;
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<opmath_t>(to_float(source[i]));
}

template <typename scalar_t, typename opmath_t>
void narrow(void* to, int64_t offset, const opmath_t* __restrict from, int64_t n) {
  scalar_t* __restrict target = static_cast<scalar_t*>(to) + offset;
  for (int64_t i = 0; i < n; ++i) from_float(from[i], target[i]);
}

template <typename opmath_t>
void load(DType dtype, const void* from, int64_t offset, opmath_t* to, int64_t n) {
  switch (dtype) {
    case DType::FLOAT32:
      return widen<float>(from, offset, to, n);
    case DType::FLOAT64:
      return widen<double>(from, offset, to, n);
    case DType::BFLOAT16:
      return widen<bfloat16>(from, offset, to, n);
    case DType::FLOAT16:
      return widen<float16>(from, offset, to, n);
  }
}

template <typename opmath_t>
void store(DType dtype, void* to, int64_t offset, const opmath_t* from, int64_t n) {
  switch (dtype) {
    case DType::FLOAT32:
      return narrow<float>(to, offset, from, n);
    case DType::FLOAT64:
      return narrow<double>(to, offset, from, n);
    case DType::BFLOAT16:
      return narrow<bfloat16>(to, offset, from, n);
    case DType::FLOAT16:
      return narrow<float16>(to, offset, from, n);
  }
}

// A window of BLOCK_SIZE elements onto one tensor: the tensor itself where it holds opmath_t
// already, a widened copy otherwise.
template <typename opmath_t>
struct Window {
  void* data;
  DType dtype;
  bool in_place;
  alignas(64) opmath_t block[BLOCK_SIZE];

  opmath_t* open(int64_t offset, int64_t n) {
    if (in_place) return static_cast<opmath_t*>(data) + offset;
    load(dtype, data, offset, block, n);
    return block;
  }
  void close(int64_t offset, int64_t n) {
    if (!in_place) store(dtype, data, offset, block, n);
  }
};

template <typename opmath_t>
constexpr DType dtype_of() {
  return sizeof(opmath_t) == sizeof(double) ? DType::FLOAT64 : DType::FLOAT32;
}

template <typename opmath_t>
void update_typed(const TensorEntry& tensor, const Group& group, const StepScalars& step,
                  const Rates& rates, bool first_step, int64_t begin, int64_t end) {
  constexpr DType own = dtype_of<opmath_t>();
  const bool unscale = step.grad_scale != nullptr;
  const bool momentum = rates.momentum != 0;
  const Hyper<opmath_t> h =
      make_hyper<opmath_t>(group, rates, first_step, inverse_scale(step.grad_scale));
  const bool switches[] = {unscale, step.write_grads, group.weight_decay != 0, momentum,
                           group.nesterov != 0};
  const Loop<opmath_t> loop = pick_loop<opmath_t>(switches);

  if (tensor.param_dtype == own && tensor.grad_dtype == own) {
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
  }
}

}  // namespace

void update_range(const TensorEntry& tensor, const Group& group, const StepScalars& step,
                  const Rates& rates, bool first_step, int64_t begin, int64_t end) {
  if (tensor.param_dtype == DType::FLOAT64) {
    update_typed<double>(tensor, group, step, rates, first_step, begin, end);
  } else {
    update_typed<float>(tensor, group, step, rates, first_step, begin, end);
  }
}

}  // namespace CPU_CAPABILITY
}  // namespace fused_warmup
