// bfloat16 and float16 to float32 and back, in integer arithmetic that compilers vectorise and that
// gives the same bits everywhere (the device has instructions for it). Rounding is to nearest even;
// subnormals are exact even where the processor flushes them (torch.set_flush_denormal).
#pragma once

#include <cstdint>
#include <cstring>

#include "math/schedule.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace fused_warmup {

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

FW_INLINE float float_from_bits(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

FW_INLINE uint32_t bits_of_float(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return bits;
}

FW_INLINE float to_float(bfloat16 h) {
  return float_from_bits(static_cast<uint32_t>(h.bits) << 16);
}

FW_INLINE void from_float(float f, bfloat16& out) {
#ifdef __CUDA_ARCH__
  out.bits = __bfloat16_as_ushort(__float2bfloat16_rn(f));
#else
  const uint32_t bits = bits_of_float(f);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out.bits = static_cast<uint16_t>(is_nan ? 0x7fc0u : rounded);
#endif
}

FW_INLINE float to_float(float16 h) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(h.bits));
#else
  const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16;
  const uint32_t magnitude = h.bits & 0x7fffu;
  // A subnormal half is an integer times 2^-24; that product is a normal float32.
  const uint32_t subnormal = bits_of_float(static_cast<float>(static_cast<int32_t>(magnitude)) *
                                           float_from_bits(0x33800000u));
  const uint32_t normal = (magnitude << 13) + 0x38000000u;      // exponent 15 becomes 127
  const uint32_t non_finite = (magnitude << 13) | 0x7f800000u;  // inf and NaN keep their payload
  const uint32_t finite = magnitude < 0x0400u ? subnormal : normal;
  return float_from_bits(sign | (magnitude >= 0x7c00u ? non_finite : finite));
#endif
}

FW_INLINE void from_float(float f, float16& out) {
#ifdef __CUDA_ARCH__
  out.bits = __half_as_ushort(__float2half_rn(f));
#else
  const uint32_t bits = bits_of_float(f);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Adding 0.5 puts a float of less than 2^-14 where the float32's last bit weighs 2^-24, so the
  // addition itself rounds it to a subnormal half.
  const uint32_t subnormal = bits_of_float(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t non_finite = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  // 65520 is the least magnitude that rounds to infinity.
  out.bits = static_cast<uint16_t>(sign | (magnitude >= 0x477ff000u ? non_finite : finite));
#endif
}

// Two neighbours at once: as one register they need one instruction each, in halves of their own
// two.
FW_INLINE void to_floats(const bfloat16* in, float& first, float& second) {
#ifdef __CUDA_ARCH__
  uint32_t both;
  std::memcpy(&both, in, sizeof both);
  first = float_from_bits(both << 16);
  second = float_from_bits(both & 0xffff0000u);
#else
  first = to_float(in[0]);
  second = to_float(in[1]);
#endif
}

// And back, for which the device has one instruction.
FW_INLINE void from_floats(float first, float second, bfloat16* out) {
#ifdef __CUDA_ARCH__
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  std::memcpy(out, &pair, sizeof pair);
#else
  from_float(first, out[0]);
  from_float(second, out[1]);
#endif
}

FW_INLINE void from_floats(float first, float second, float16* out) {
#ifdef __CUDA_ARCH__
  const __half2 pair = __floats2half2_rn(first, second);
  std::memcpy(out, &pair, sizeof pair);
#else
  from_float(first, out[0]);
  from_float(second, out[1]);
#endif
}

}  // namespace fused_warmup
