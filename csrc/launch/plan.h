// What one launch reads: plain structs, the same for every native kernel.
#pragma once

#include <cstdint>

#include "math/half.h"
#include "math/lars.h"

namespace fused_warmup {

enum class DType : int32_t { FLOAT32 = 0, FLOAT64 = 1, BFLOAT16 = 2, FLOAT16 = 3 };

// Bytes an element.
FW_INLINE int64_t size_of(DType dtype) {
  return dtype == DType::FLOAT64 ? 8 : (dtype == DType::FLOAT32 ? 4 : 2);
}

// state[p]["first_step"]: the step at which a parameter first moved. All who read it in the step
// that writes it see either NEVER or that step's own t, so no order among them is needed.
constexpr int64_t FIRST_STEP_NEVER = -1;

// One parameter of a launch. The three tensors have the same strides over the same dense memory,
// so one flat index serves them all.
struct TensorEntry {
  void* param;
  void* grad;
  void* momentum_buffer;  // null where the group has no momentum
  int64_t* first_step;    // null where the group has had no dampening yet
  int64_t n_elements;
  DType param_dtype;  // of the momentum buffer too
  DType grad_dtype;
  int32_t group;
  int32_t row;  // of LARS's norms. No padding: tables are compared byte by byte
};
static_assert(sizeof(TensorEntry) == 56, "no padding");

// What a parameter may have beside its entry, at the same index. A launch in which none has any is
// given no such table.
struct Extras {
  // Exponential moving average of the parameter, in the type of the arithmetic; null: none.
  void* ema;
  // Of a parameter with a float32 master copy, which its entry has as `param`: the parameter
  // itself, which gets the master's values rounded. Null: the entry has the parameter itself.
  void* rounded;
  DType rounded_dtype;
  int32_t reserved;
};
static_assert(sizeof(Extras) == 24, "no padding");

// One parameter group. Hyper-parameters stay float64, as Python has them, until they meet the
// element type.
struct Group {
  double lr;           // base rate, unless lr_ptr is set
  const void* lr_ptr;  // a tensor lr, read where the kernel runs
  double weight_decay;
  double momentum;  // base momentum
  double dampening;
  double ema_decay;           // base decay of averages; read where an entry has one
  int64_t ema_every;          // averages are updated at every so many steps,
  int64_t ema_start;          // from this step on, and are copies until then; -1: from the start
  DType lr_dtype;             // of the tensor lr
  int32_t schedule;           // of the rate: index, -1 for none
  int32_t momentum_schedule;  // likewise
  int32_t ema_schedule;       // likewise
  int32_t nesterov;
  int32_t maximize;
  // Those of LARS; 0 in SGD.
  int32_t adapt;
  int32_t trust_clip;
  int32_t lr_in_momentum;
  int32_t reserved;
  double trust_coefficient;
  double trust_eps;
  int64_t spare;  // makes it a power of two: the host finds a group by a shift, for each tensor
};
static_assert(sizeof(Group) == 128, "no padding");

// What a group's schedules make of its base values at one step.
struct Rates {
  double lr;
  double momentum;
  double ema_weight;  // of parameters in their averages, in launches with extras; 0: these stay
};

// The scalars of a step that live in memory and may differ from one replay to the next.
struct StepScalars {
  int64_t* t;               // updates applied so far
  double* lr;               // out: the rate used, one a group
  void* given;              // out: likewise, for another optimizer; null: there is none
  const float* found_inf;   // null: no AMP. The step is skipped where it is not 0
  const float* grad_scale;  // null: gradients are not scaled
  bool write_grads;         // leave unscaled gradients behind, as GradScaler.unscale_ does
  bool advance;             // last launch of the step on this device: t moves on
  bool gives_float;         // what given holds: float32, else float64
};

FW_INLINE void put_rate(const StepScalars& step, int64_t group, double rate) {
  step.lr[group] = rate;
  if (step.given == nullptr) return;
  if (step.gives_float) {
    static_cast<float*>(step.given)[group] = static_cast<float>(rate);
  } else {
    static_cast<double*>(step.given)[group] = rate;
  }
}

FW_INLINE double base_lr(const Group& group) {
  if (group.lr_ptr == nullptr) return group.lr;
  switch (group.lr_dtype) {
    case DType::FLOAT64:
      return *static_cast<const double*>(group.lr_ptr);
    case DType::BFLOAT16:
      return to_float(*static_cast<const bfloat16*>(group.lr_ptr));
    case DType::FLOAT16:
      return to_float(*static_cast<const float16*>(group.lr_ptr));
    default:
      return *static_cast<const float*>(group.lr_ptr);
  }
}

FW_INLINE double factor_at(const Schedule* schedules, int32_t index, int64_t t) {
  return index < 0 ? 1.0 : schedule_factor(schedules[index], t);
}

// The weight with which a parameter goes into its average after step t, at which the decay's
// schedule has this factor. Steps and starts count as in Lightning's WeightAveraging. The first
// update of an average that is given a start is a copy, as torch's AveragedModel makes it, and
// until then it is a copy too: one whose parameter has no gradient in that very step misses
// nothing.
FW_INLINE double ema_weight(const Group& group, double factor, int64_t t) {
  const int64_t past = t % group.ema_every;  // steps since an update was due
  const bool is_copy =
      group.ema_start >= 0 && t - group.ema_start < (past == 0 ? group.ema_every : past);
  if (is_copy) return 1.0;
  return past == 0 ? 1.0 - group.ema_decay * factor : 0.0;
}

// One field of Rates by its index, so that threads can work out all of them at the same time.
FW_INLINE double track_at(const Group& group, const Schedule* schedules, int64_t t, int track) {
  const int32_t schedule = track == 0   ? group.schedule
                           : track == 1 ? group.momentum_schedule
                                        : group.ema_schedule;
  const double factor = factor_at(schedules, schedule, t);
  if (track == 2) return ema_weight(group, factor, t);
  const double base = track == 0 ? base_lr(group) : group.momentum;
  // No momentum stays none whatever its factor, infinity included: there may be no buffer.
  return track == 1 && base == 0 ? 0.0 : base * factor;
}

// Without the weight in averages, which launches with extras add.
FW_INLINE Rates rates_at(const Group& group, const Schedule* schedules, int64_t t) {
  return {track_at(group, schedules, t, 0), track_at(group, schedules, t, 1), 0.0};
}

// GradScaler's own reciprocal: in float64, then rounded to float32.
FW_INLINE float inverse_scale(const float* grad_scale) {
  return grad_scale == nullptr ? 1.0f : static_cast<float>(1.0 / static_cast<double>(*grad_scale));
}

FW_INLINE bool is_first_step(const int64_t* first_step, int64_t t) {
  return first_step != nullptr && (*first_step == FIRST_STEP_NEVER || *first_step == t);
}

// A step without momentum leaves the buffer alone, so that it is no first step either.
FW_INLINE bool is_marked_now(const int64_t* first_step, const Rates& rates) {
  return first_step != nullptr && rates.momentum != 0 && *first_step == FIRST_STEP_NEVER;
}

template <typename opmath_t>
FW_INLINE Hyper<opmath_t> make_hyper(const Group& group, const Rates& rates, bool first_step,
                                     float inv_scale) {
  return {static_cast<opmath_t>(-rates.lr), static_cast<opmath_t>(group.weight_decay),
          static_cast<opmath_t>(rates.momentum),
          static_cast<opmath_t>(first_step ? 1.0 : 1.0 - group.dampening),
          static_cast<opmath_t>(inv_scale)};
}

// Of LARS: `squares` are those of the tensor's row.
template <typename opmath_t>
FW_INLINE LarsHyper<opmath_t> make_hyper(const Group& group, const Rates& rates, bool first_step,
                                         float inv_scale, const double* squares) {
  const double ratio =
      trust_ratio(squares, {group.trust_coefficient, group.trust_eps, group.weight_decay, rates.lr,
                            group.adapt != 0, group.trust_clip != 0});
  return with_layer_rate(make_hyper<opmath_t>(group, rates, first_step, inv_scale), ratio, rates.lr,
                         group.lr_in_momentum != 0);
}

}  // namespace fused_warmup
