// A tensor of any dtype as the arithmetic type, block by block. Included by what is compiled once
// for each instruction set, into the namespace of each.
#pragma once

#include "launch/plan.h"

namespace fused_warmup {
namespace CPU_CAPABILITY {
namespace {

constexpr int64_t BLOCK_SIZE = 1024;  // three blocks of float64 are 24 KiB: they fit in L1

template <typename opmath_t>
constexpr DType dtype_of() {
  return sizeof(opmath_t) == sizeof(double) ? DType::FLOAT64 : DType::FLOAT32;
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

}  // namespace
}  // namespace CPU_CAPABILITY
}  // namespace fused_warmup
