// PTX's values as C++ has them: bit patterns in unsigned integers, and the conversions whose
// results the PTX ISA fixes where C++ leaves them open. A float that comes out is canonical where
// it is NaN.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

using u8 = uint8_t;
using s8 = int8_t;
using u16 = uint16_t;
using s16 = int16_t;
using u32 = uint32_t;
using s32 = int32_t;
using u64 = uint64_t;
using s64 = int64_t;

static inline float as_f32(u32 bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}
static inline double as_f64(u64 bits) {
  double f;
  memcpy(&f, &bits, sizeof f);
  return f;
}
static inline u32 bits_f32(float f) {
  u32 bits;
  memcpy(&bits, &f, sizeof bits);
  return f != f ? 0x7fffffffu : bits;
}
static inline u64 bits_f64(double f) {
  u64 bits;
  memcpy(&bits, &f, sizeof bits);
  return bits;
}

static inline float fma_(float a, float b, float c) { return fmaf(a, b, c); }
static inline double fma_(double a, double b, double c) { return fma(a, b, c); }
static inline bool is_nan(float x) { return x != x; }
static inline bool is_nan(double x) { return x != x; }

// The upper word of 1 / x, subnormals flushed: what the hardware gives.
static inline double rcp_approx_ftz_f64(double x) {
  constexpr u64 exponent = 0x7ffull << 52, sign = 1ull << 63;
  u64 bits = bits_f64(x);
  if ((bits & exponent) == 0) bits &= sign;
  bits = bits_f64(1.0 / as_f64(bits));
  if ((bits & exponent) == 0) return as_f64(bits & sign);
  if ((bits & exponent) != exponent) bits &= ~0xffffffffull;
  return as_f64(bits);
}

static inline s64 cvt_rzi_s64_f64(double x) {
  if (x != x) return INT64_MIN;
  if (x >= 9223372036854775808.0) return INT64_MAX;
  if (x < -9223372036854775808.0) return INT64_MIN;
  return static_cast<s64>(x);
}

static inline u16 cvt_rn_bf16(float f) {
  if (f != f) return 0x7fff;
  const u32 bits = bits_f32(f);
  const u32 low = bits & 0xffffu, high = bits >> 16;
  const bool up = low > 0x8000u || (low == 0x8000u && (high & 1));
  return static_cast<u16>(high + up);
}

static inline float cvt_f32_f16(u16 h) {
  const int exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31 && mantissa != 0) return as_f32(0x7fffffffu);
  float magnitude = INFINITY;
  if (exponent == 0) magnitude = ldexpf(static_cast<float>(mantissa), -24);
  if (exponent > 0 && exponent < 31) magnitude = ldexpf(mantissa + 1024.0f, exponent - 25);
  return (h & 0x8000) ? -magnitude : magnitude;
}

// By search of the exact value, not by tricks with bits.
static inline u16 cvt_rn_f16(float f) {
  const u32 sign = (bits_f32(f) >> 16) & 0x8000u;
  if (f != f) return 0x7fff;
  const double magnitude = fabs(static_cast<double>(f));
  if (magnitude >= 65520.0) return static_cast<u16>(sign | 0x7c00);
  int exponent = 0;
  frexp(magnitude, &exponent);  // magnitude is in [2^(exponent - 1), 2^exponent)
  const int last = magnitude == 0.0 || exponent - 11 < -24 ? -24 : exponent - 11;
  const u32 n = static_cast<u32>(nearbyint(ldexp(magnitude, -last)));  // to even
  // A subnormal's bits are the integer itself; the next binades start where it ends.
  return static_cast<u16>(sign | (static_cast<u32>(last + 24) * 1024u + n));
}

// Two conversions into one register: the first operand goes to the upper half.
static inline u32 pack_halves(u16 upper, u16 lower) {
  return static_cast<u32>(upper) << 16 | lower;
}
