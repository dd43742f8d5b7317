#include "host/packed.h"

#include <cstring>
#include <stdexcept>

namespace fused_warmup {
namespace {

// Half of int64. With the integers of a segment within it, sums and differences do not overflow.
// fused_warmup/schedules/segment.py refuses others with more words.
constexpr int64_t FAR = int64_t{1} << 62;

bool keeps_to_int64(const Segment& s) {
  return s.start >= 0 && s.origin >= -FAR / 2 && s.origin - FAR <= s.start && s.stair >= 1 &&
         s.stair <= FAR && s.period >= 0;
}

bool keeps_to_values(const Segment& s, int64_t n_values) {
  if (s.kind != TABLE) return s.kind >= POLY && s.kind <= POW;
  return s.table_offset >= 0 && s.table_size >= 1 && s.table_size <= n_values &&
         s.table_offset <= n_values - s.table_size;
}

}  // namespace

std::vector<Segment> unpack_segments(const std::string& bytes, size_t n_values) {
  if (bytes.size() % sizeof(Segment) != 0) {
    throw std::invalid_argument("packed segments must be records of " +
                                std::to_string(sizeof(Segment)) + " bytes, got " +
                                std::to_string(bytes.size()) + " bytes: use Schedule.pack()");
  }
  std::vector<Segment> segments(bytes.size() / sizeof(Segment));
  if (!segments.empty()) std::memcpy(segments.data(), bytes.data(), bytes.size());
  for (size_t i = 0; i < segments.size(); ++i) {
    if (!keeps_to_int64(segments[i]) ||
        !keeps_to_values(segments[i], static_cast<int64_t>(n_values))) {
      throw std::invalid_argument("packed segment " + std::to_string(i) +
                                  " holds a field out of its range, or a table outside of the " +
                                  std::to_string(n_values) + " values: use Schedule.pack()");
    }
  }
  return segments;
}

void check_indices(const char* name, const std::vector<int32_t>& indices, size_t size,
                   int32_t least, size_t end) {
  bool good = indices.size() == size;
  for (const int32_t index : indices) {
    good = good && index >= least && index < static_cast<int64_t>(end);
  }
  if (!good) {
    throw std::invalid_argument(std::string(name) + " must be " + std::to_string(size) +
                                " indices from " + std::to_string(least) + " to below " +
                                std::to_string(end) + ": build a Plan");
  }
}

}  // namespace fused_warmup
