// Neighbouring elements of a tensor, read and written 16 bytes at a time.
#pragma once

#include "cuda/tuning.h"
#include "math/half.h"

namespace fused_warmup {
namespace cuda {

constexpr int BYTES_PER_ACCESS = 16;

FW_INLINE float to_float(float x) { return x; }
FW_INLINE double to_float(double x) { return x; }
FW_INLINE void from_float(float x, float& out) { out = x; }
FW_INLINE void from_float(double x, double& out) { out = x; }
using fused_warmup::from_float;  // of half.h
using fused_warmup::from_floats;
using fused_warmup::to_float;
using fused_warmup::to_floats;

template <typename scalar_t, typename opmath_t>
FW_INLINE void to_floats(const scalar_t* in, opmath_t& first, opmath_t& second) {
  first = static_cast<opmath_t>(to_float(in[0]));
  second = static_cast<opmath_t>(to_float(in[1]));
}

template <typename opmath_t, typename scalar_t>
FW_INLINE void from_floats(opmath_t first, opmath_t second, scalar_t* out) {
  from_float(first, out[0]);
  from_float(second, out[1]);
}

template <typename scalar_t, int N>
struct alignas(N * sizeof(scalar_t) < BYTES_PER_ACCESS ? N * sizeof(scalar_t) : BYTES_PER_ACCESS)
    Pack {
  scalar_t values[N];
};

// Asks for a line of memory, so that it is on its way while something else is waited for.
FW_INLINE void prefetch(const void* at) {
#ifdef __CUDA_ARCH__
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(at)));
#else
  static_cast<void>(at);
#endif
}

#ifdef __CUDA_ARCH__
// What one access moves: as many bytes as a pack has, at most 16. Pointers out of a table may point
// anywhere, for all that the compiler knows, and each access would have to find out: `.global` says
// that it is global memory.
template <size_t BYTES>
struct Word {
  uint4 bits;
  __device__ void load(const Word* at) {
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
                 : "l"(at));
  }
  __device__ void store(Word* at) const {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(bits.x), "r"(bits.y),
                 "r"(bits.z), "r"(bits.w)
                 : "memory");
  }
};
template <>
struct Word<8> {
  uint2 bits;
  __device__ void load(const Word* at) {
    asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(bits.x), "=r"(bits.y) : "l"(at));
  }
  __device__ void store(Word* at) const {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(at), "r"(bits.x), "r"(bits.y) : "memory");
  }
};
template <>
struct Word<4> {
  unsigned int bits;
  __device__ void load(const Word* at) {
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(bits) : "l"(at));
  }
  __device__ void store(Word* at) const {
    asm volatile("st.global.u32 [%0], %1;" ::"l"(at), "r"(bits) : "memory");
  }
};
template <>
struct Word<2> {
  unsigned short bits;
  __device__ void load(const Word* at) {
    asm volatile("ld.global.u16 %0, [%1];" : "=h"(bits) : "l"(at));
  }
  __device__ void store(Word* at) const {
    asm volatile("st.global.u16 [%0], %1;" ::"l"(at), "h"(bits) : "memory");
  }
};
#endif

// Streaming marks what nobody needs again soon.
template <bool Streaming, typename pack_t>
FW_INLINE pack_t load_pack(const pack_t* from) {
#ifdef __CUDA_ARCH__
  using word_t = Word<sizeof(pack_t)>;
  const word_t* words = reinterpret_cast<const word_t*>(from);
  pack_t pack;
#pragma unroll
  for (size_t k = 0; k < sizeof(pack_t) / sizeof(word_t); ++k) {
    word_t word;
    if constexpr (Streaming && sizeof(word_t) == sizeof(uint4)) {
      word.bits = __ldcs(&words[k].bits);
    } else {
      word.load(words + k);
    }
    std::memcpy(reinterpret_cast<char*>(&pack) + k * sizeof word, &word, sizeof word);
  }
  return pack;
#else
  return *from;
#endif
}

template <bool Streaming, typename pack_t>
FW_INLINE void store_pack(pack_t* to, const pack_t& pack) {
#ifdef __CUDA_ARCH__
  using word_t = Word<sizeof(pack_t)>;
  word_t* words = reinterpret_cast<word_t*>(to);
#pragma unroll
  for (size_t k = 0; k < sizeof(pack_t) / sizeof(word_t); ++k) {
    word_t word;
    std::memcpy(&word, reinterpret_cast<const char*>(&pack) + k * sizeof word, sizeof word);
    if constexpr (Streaming && sizeof(word_t) == sizeof(uint4)) {
      __stcs(&words[k].bits, word.bits);
    } else {
      word.store(words + k);
    }
  }
#else
  *to = pack;
#endif
}

}  // namespace cuda
}  // namespace fused_warmup
