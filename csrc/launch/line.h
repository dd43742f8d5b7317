// The work of one launch as a line: the elements of all tensors end to end, each tensor taking
// TENSOR_OVERHEAD more than its elements. The line is cut into equal shares, one a thread of the
// CPU or a warp of the GPU, so that ten thousand small tensors and one large one load them alike.
// All its positions are multiples of SHARE_MULTIPLE: no share differs by more from another.
#pragma once

#include <algorithm>
#include <vector>

#include "launch/plan.h"

namespace fused_warmup {

constexpr int64_t TENSOR_OVERHEAD = 64;  // what starting a tensor costs, in elements

// Tensors are cut at multiples of this many elements: 16-byte accesses stay aligned, and no two
// threads write to one cache line of a tensor that begins on one.
constexpr int64_t SHARE_MULTIPLE = 64;

// What a tensor takes of the line.
inline int64_t work_of(const TensorEntry& entry) {
  const int64_t multiples = (entry.n_elements + SHARE_MULTIPLE - 1) / SHARE_MULTIPLE;
  return multiples * SHARE_MULTIPLE + TENSOR_OVERHEAD;
}

// The line over `entries`: the position at which each tensor begins, then that of the end, which is
// the work of the launch.
inline std::vector<int64_t> make_line(const std::vector<TensorEntry>& entries) {
  std::vector<int64_t> line{0};
  line.reserve(entries.size() + 1);
  for (const TensorEntry& entry : entries) {
    line.push_back(line.back() + work_of(entry));
  }
  return line;
}

// The work of a launch: where its line ends.
inline int64_t work_of(const std::vector<TensorEntry>& entries) {
  int64_t work = 0;
  for (const TensorEntry& entry : entries) work += work_of(entry);
  return work;
}

// Index of the tensor that the share which begins at `position` begins in.
inline size_t tensor_at(const std::vector<int64_t>& line, int64_t position) {
  const auto after = std::upper_bound(line.begin(), line.end(), position);
  return static_cast<size_t>(after - line.begin() - 1);
}

// Where share `share` of n_shares begins; the one after the last begins where the line ends. What
// is left over goes to the first shares, a multiple each.
FW_INLINE int64_t share_begin(int64_t work, int32_t n_shares, int32_t share) {
  const int64_t multiples = work / SHARE_MULTIPLE;
  const int64_t left_over = multiples % n_shares;
  const int64_t before = share < left_over ? share : left_over;
  return (multiples / n_shares * share + before) * SHARE_MULTIPLE;
}

// A share of the line, as kernels on a device find it: worked out once, on the host.
struct Share {
  int64_t begin;  // a position of the line; the share ends where the next begins
  int32_t entry;  // the tensor that it begins in
  int32_t reserved;
};
static_assert(sizeof(Share) == 16, "no padding");

// All shares, and one after the last that begins where the line ends.
inline std::vector<Share> make_shares(const std::vector<int64_t>& line, int32_t n_shares) {
  std::vector<Share> shares;
  for (int32_t share = 0; share <= n_shares; ++share) {
    const int64_t begin = share_begin(line.back(), n_shares, share);
    shares.push_back({begin, static_cast<int32_t>(tensor_at(line, begin)), 0});
  }
  return shares;
}

// A position of the line as an index into the tensor that begins at `origin`. The shares before and
// after a cut get the same index.
FW_INLINE int64_t cut_at(int64_t position, int64_t origin, int64_t n_elements) {
  const int64_t inside = position - origin;
  return inside < 0 ? 0 : (inside < n_elements ? inside : n_elements);
}

// Where the share that ends at `position` leaves the tensor that begins at `origin`, the one after
// it beginning at `next`. Most tensors end within a share: no cut need be worked out for them.
FW_INLINE int64_t end_at(int64_t position, int64_t origin, int64_t next, int64_t n_elements) {
  return position >= next ? n_elements : cut_at(position, origin, n_elements);
}

}  // namespace fused_warmup
