// LARS's norms on the CPU: one chunk of a tensor and of its gradient, in the order of lars.h.
// Compiled once for each instruction set, with CPU_CAPABILITY naming the namespace (see kernel.h).
#include "cpu/kernel.h"
#include "cpu/window.h"

namespace fused_warmup {
namespace CPU_CAPABILITY {
namespace {

// Adds the squares of n elements, each times `factor` if `Scaled`, the first of them to lane 0.
template <bool Scaled, typename opmath_t>
void add_squares(const opmath_t* __restrict values, int64_t n, opmath_t factor,
                 double* __restrict lanes) {
  const auto add = [&](int64_t i, int64_t lane) {
    const double value = static_cast<double>(Scaled ? values[i] * factor : values[i]);
    lanes[lane] += value * value;
  };
  int64_t i = 0;
  for (; i + SUM_LANES <= n; i += SUM_LANES) {
    for (int64_t lane = 0; lane < SUM_LANES; ++lane) add(i + lane, lane);
  }
  for (int64_t lane = 0; i + lane < n; ++lane) add(i + lane, lane);
}

template <bool Scaled, typename opmath_t>
double sum_squares(const void* data, DType dtype, int64_t begin, int64_t end, opmath_t factor) {
  static_assert(BLOCK_SIZE % SUM_LANES == 0, "each block begins with lane 0");
  alignas(64) double lanes[SUM_LANES] = {};
  if (dtype == dtype_of<opmath_t>()) {
    const opmath_t* values = static_cast<const opmath_t*>(data) + begin;
    add_squares<Scaled>(values, end - begin, factor, lanes);
  } else {
    alignas(64) opmath_t block[BLOCK_SIZE];
    for (int64_t i = begin; i < end; i += BLOCK_SIZE) {
      const int64_t n = end - i < BLOCK_SIZE ? end - i : BLOCK_SIZE;
      load(dtype, data, i, block, n);
      add_squares<Scaled>(block, n, factor, lanes);
    }
  }
  return sum_of_lanes(lanes, end - begin);
}

template <typename opmath_t>
void sum_typed(const TensorEntry& tensor, const float* grad_scale, int64_t begin, int64_t end,
               double* squares) {
  const opmath_t factor = inverse_scale(grad_scale);
  squares[0] = sum_squares<false>(tensor.param, tensor.param_dtype, begin, end, factor);
  squares[1] = grad_scale == nullptr
                   ? sum_squares<false>(tensor.grad, tensor.grad_dtype, begin, end, factor)
                   : sum_squares<true>(tensor.grad, tensor.grad_dtype, begin, end, factor);
}

}  // namespace

void sum_chunk(const TensorEntry& tensor, const float* grad_scale, int64_t begin, int64_t end,
               double* squares) {
  if (tensor.param_dtype == DType::FLOAT64) {
    sum_typed<double>(tensor, grad_scale, begin, end, squares);
  } else {
    sum_typed<float>(tensor, grad_scale, begin, end, squares);
  }
}

}  // namespace CPU_CAPABILITY
}  // namespace fused_warmup
