// The learning-rate schedule: its factor at step t, for every native kernel, on host and device.
//
// A schedule is a table of segments sorted by `start`; segment i rules start[i] <= t < start[i+1].
// A product is several such tables end to end, its tracks: a segment that starts at step 0 begins
// the next one.
// Everything is closed form in float64 from the int64 step, so no rounding error accumulates and a
// resumed run sees the same rates. fused_warmup/schedules/segment.py states the same mathematics
// in Python; tests pin the two together.
#pragma once

#include <cmath>
#include <cstdint>

// `static`: cpu_kernel.cpp is compiled once for each instruction set, and a function with external
// linkage would be merged into whichever copy the linker met first.
#ifdef __CUDACC__
#define FW_INLINE __host__ __device__ static inline
#else
#define FW_INLINE static inline
#endif

namespace fused_warmup {

enum Kind : int64_t { POLY = 0, COS = 1, EXP = 2, POW = 3, TABLE = 4 };
enum PastEnd : int64_t { HOLD = 0, CONTINUE = 1 };

// 16 fields of 8 bytes, as Schedule.pack() writes them ("<8q8d").
struct Segment {
  int64_t kind;
  int64_t past_end;  // HOLD clamps x to [0, 1]; CONTINUE follows the formula wherever it leads
  int64_t start;     // first step that the segment rules
  int64_t origin;    // steps are counted from here
  int64_t stair;     // the count is rounded down to a multiple of this many steps
  int64_t period;    // the count starts again after this many steps; 0: never
  int64_t table_offset;
  int64_t table_size;
  double shift;  // added to the count: a fractional anchor
  double length;
  double a;
  double b;
  double p;
  double k;
  double m;
  double log_cycle_gain;  // ln of what each completed cycle multiplies the amplitude by
};
static_assert(sizeof(Segment) == 128, "Schedule.pack() writes 128 bytes a segment");

struct Schedule {
  const Segment* segments;
  int64_t n_segments;
  const double* values;  // what TABLE segments point into
  int64_t n_values;
  int64_t n_tracks;
};

inline Schedule make_schedule(const Segment* segments, int64_t n_segments, const double* values,
                              int64_t n_values) {
  int64_t n_tracks = n_segments > 0;
  for (int64_t i = 1; i < n_segments; ++i) n_tracks += segments[i].start == 0;
  return {segments, n_segments, values, n_values, n_tracks};
}

FW_INLINE int64_t floor_div(int64_t n, int64_t d) {
  const int64_t q = n / d;
  return q - (n % d < 0);
}

FW_INLINE int64_t floor_mod(int64_t n, int64_t d) {
  const int64_t r = n % d;
  return r < 0 ? r + d : r;
}

// t - origin where t >= 0, at most INT64_MAX: an origin before step 0 does not overflow, the clock
// stops at its end.
FW_INLINE int64_t steps_since(int64_t origin, int64_t t) {
  const int64_t latest = t - INT64_MAX;
  return t - (origin < latest ? latest : origin);
}

// The count after one more step. At its end it stays, for it must not wrap to before the first.
FW_INLINE int64_t next_count(int64_t t) { return t < INT64_MAX ? t + 1 : t; }

// x^e as the schedule means it: an exponent of 1 is exact, and a negative base under a fractional
// exponent counts as 0, so that a curve continued past its zero stays there instead of becoming
// NaN.
FW_INLINE double real_pow(double x, double e) {
  if (e == 1.0) return x;
  if (x < 0.0 && e != ::floor(e)) return 0.0;
  return ::pow(x, e);
}

// cos(pi * n). Whole waves are taken off first, which is exact, so that a large angle is rounded no
// more than a small one. CUDA's cospi does so too, without the local memory that its cos needs.
FW_INLINE double cos_half_waves(double n) {
#ifdef __CUDA_ARCH__
  return ::cospi(n);
#else
  constexpr double pi = 3.14159265358979323846;
  n = ::fabs(n);
  return ::cos(pi * (n - 2.0 * ::floor(0.5 * n)));
#endif
}

// Schedule.pack() lets no segment pass whose integers leave int64 at a step that it rules.
FW_INLINE double segment_factor(const Segment& s, const double* values, int64_t t) {
  int64_t n = steps_since(s.origin, t);
  int64_t cycle = 0;
  if (s.period > 0) {
    cycle = floor_div(n, s.period);
    n = floor_mod(n, s.period);
  }
  if (s.stair > 1) n -= floor_mod(n, s.stair);
  const double gain =
      s.log_cycle_gain != 0.0 ? ::exp(s.log_cycle_gain * static_cast<double>(cycle)) : 1.0;

  if (s.kind == TABLE) {
    const int64_t last = s.table_size - 1;
    const int64_t i = n < 0 ? 0 : (n > last ? last : n);
    return s.b + (values[s.table_offset + i] - s.b) * gain;
  }

  double x = (static_cast<double>(n) + s.shift) / s.length;
  if (s.past_end == HOLD) x = x < 0.0 ? 0.0 : (x > 1.0 ? 1.0 : x);

  double f = 0.0;
  switch (s.kind) {
    case POLY:
      f = real_pow(1.0 - real_pow(x, s.k), s.p);
      break;
    case COS:
      f = real_pow((1.0 + cos_half_waves(s.m * real_pow(x, s.k))) / 2.0, s.p);
      break;
    case EXP:
      f = ::exp(s.p * x);
      break;
    default:  // POW
      f = real_pow(1.0 + x, -s.p);
  }
  // No amplitude, no curve: 0 times one that overflowed would be NaN.
  return s.a == s.b ? s.b : s.b + (s.a - s.b) * gain * f;
}

// The factor at step t. An empty schedule is the factor 1. No step comes before step 0, whatever
// has been written into a count.
FW_INLINE double schedule_factor(const Schedule& schedule, int64_t t) {
  if (t < 0) t = 0;
  const Segment* ruling = schedule.segments;
  const Segment* const end = ruling + schedule.n_segments;
  double product = 1.0;
  for (int64_t left = schedule.n_tracks; left > 0; --left) {
    while (ruling + 1 < end && ruling[1].start > 0 && ruling[1].start <= t) ++ruling;
    const double factor = segment_factor(*ruling, schedule.values, t);
    // 0 times one that overflowed would be NaN.
    product = product == 0.0 || factor == 0.0 ? 0.0 : product * factor;
    if (left == 1) break;
    do {
      ++ruling;
    } while (ruling->start > 0);
  }
  return product;
}

}  // namespace fused_warmup
