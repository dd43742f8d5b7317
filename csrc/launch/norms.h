// LARS's norms in one launch over the line of line.h: which share adds up which chunk, and where
// the sums go. A chunk belongs to the share that it begins in, so that one share alone adds it up.
#pragma once

#include "launch/line.h"

namespace fused_warmup {

// Where the sums go. Memory of the device.
struct Norms {
  double* squares;    // (parameter, gradient) a row; entries name theirs
  double* partials;   // (parameter, gradient) a chunk
  uint32_t* tickets;  // one a row: chunks that are through; back at 0 when the launch ends
};

// The partial sums of tensor i, which begins at `origin` of the line. Slots of two tensors are
// apart: a tensor has at most n_elements / MIN_CHUNK + 1 chunks and takes more than n_elements.
FW_INLINE int64_t first_slot(int64_t origin, int64_t i) { return origin / MIN_CHUNK + i; }

// Chunks of the tensor that begins at `origin` which begin in [first, last) of the line.
struct Chunks {
  int64_t begin, end;
};

FW_INLINE Chunks chunks_in(int64_t first, int64_t last, int64_t origin, int64_t n_elements,
                           int64_t chunk) {
  const auto before = [=](int64_t position) {  // chunks that begin before it
    const int64_t inside = position - origin;
    const int64_t all = n_chunks(n_elements, chunk);
    const int64_t begun = inside <= 0 ? 0 : (inside + chunk - 1) / chunk;
    return begun < all ? begun : all;
  };
  return {before(first), before(last)};
}

// The sum of n chunks, two doubles apart, in the order of lars.h.
inline double sum_of_chunks(const double* sums, int64_t n) {
  double lanes[SUM_LANES] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % SUM_LANES] += sums[2 * i];
  return sum_of_lanes(lanes, n);
}

}  // namespace fused_warmup
