// LARS: what layer-wise rates add to SGD, for every native kernel, on host and device.
//
// You, Gitman, Ginsburg 2017 (arXiv:1708.03888): the rate of a tensor is the group's times a trust
// ratio of two norms, the parameter's and its gradient's.
//
// Norms are sums in one fixed order that depends on the number of elements alone, so that they have
// the same bits on every backend, whatever the number of threads, blocks or shares. Squares are
// float64: those of float32 are exact there, and neither overflow nor vanish.
//
// A tensor is cut into chunks. A chunk's elements go to SUM_LANES lanes in turn, element i to lane
// i % SUM_LANES; each lane adds its own in order; then the upper half of the lanes is added to the
// lower until one is left. The sums of the chunks are added in the same way.
#pragma once

#include <cfloat>

#include "math/sgd.h"

namespace fused_warmup {

constexpr int64_t SUM_LANES = 128;

// Elements of a chunk, unless that makes more than MAX_CHUNKS; twice as many then, and so on.
constexpr int64_t MIN_CHUNK = 32 * SUM_LANES;
constexpr int64_t MAX_CHUNKS = 4096;

FW_INLINE int64_t chunk_size(int64_t n_elements) {
  int64_t size = MIN_CHUNK;
  while (n_elements > size * MAX_CHUNKS) size *= 2;
  return size;
}

FW_INLINE int64_t n_chunks(int64_t n_elements, int64_t chunk) {
  return (n_elements + chunk - 1) / chunk;
}

// How many lanes the first sum over the lanes leaves where only the first n of them are not 0.
FW_INLINE int64_t first_half(int64_t n) {
  int64_t half = SUM_LANES / 2;
  while (half > 0 && half >= n) half /= 2;
  return half;
}

// The sum of the lanes, of which the first n hold something; overwrites them.
FW_INLINE double sum_of_lanes(double* lanes, int64_t n) {
  for (int64_t half = first_half(n); half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

// What one layer's rate is made of; the options of its group.
struct Trust {
  double coefficient;
  double eps;
  double weight_decay;
  double lr;   // of this step
  bool adapt;  // false: the ratio is 1
  bool clip;   // LARC: the layer's rate is at most lr
};

// `squares`: the sums of squares of a parameter and of its gradient.
FW_INLINE double trust_ratio(const double* squares, const Trust& trust) {
  if (!trust.adapt || !(squares[0] > 0.0) || !(squares[1] > 0.0)) return 1.0;
  const double param = ::sqrt(squares[0]);
  const double grad = ::sqrt(squares[1]);
  const double ratio = trust.coefficient * param / (grad + trust.weight_decay * param + trust.eps);
  if (!trust.clip) return ratio;
  return ratio < trust.lr ? ratio / trust.lr : 1.0;
}

// SGD's, and the factor on a tensor's gradient, weight decay included.
template <typename opmath_t>
struct LarsHyper : Hyper<opmath_t> {
  opmath_t layer_rate;
};

template <typename opmath_t>
FW_INLINE opmath_t scaled(opmath_t d, const LarsHyper<opmath_t>& h) {
  return d * h.layer_rate;
}

// Where the rate is part of the momentum, as in the paper, the momentum is what a step subtracts.
// A rate stays finite: without weight decay and eps, that of a vanishing gradient overflows, and
// infinity times the gradient's zeros would be NaN.
template <typename opmath_t>
FW_INLINE LarsHyper<opmath_t> with_layer_rate(Hyper<opmath_t> h, double ratio, double lr,
                                              bool lr_in_momentum) {
  constexpr double most = sizeof(opmath_t) == sizeof(double) ? DBL_MAX : FLT_MAX;
  if (lr_in_momentum) h.neg_lr = opmath_t(-1);
  const double rate = lr_in_momentum ? lr * ratio : ratio;
  return {h, static_cast<opmath_t>(rate > most ? most : rate)};
}

}  // namespace fused_warmup
