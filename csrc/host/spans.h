// Where tensors lie, to tell whether any of them share memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "launch/plan.h"

namespace fused_warmup {

struct Span {
  uintptr_t begin, end;
};

// Of a dense tensor.
inline Span span_of(const void* data, int64_t n_elements, DType dtype) {
  const int64_t size = dtype == DType::FLOAT64 ? 8 : (dtype == DType::FLOAT32 ? 4 : 2);
  const auto begin = reinterpret_cast<uintptr_t>(data);
  return {begin, begin + static_cast<uintptr_t>(n_elements * size)};
}

class Spans {
 public:
  void clear() { spans_.clear(); }
  void push_back(Span span) { spans_.push_back(span); }

  // Sorts them. Whether no two overlap.
  bool sort() {
    std::sort(spans_.begin(), spans_.end(),
              [](const Span& a, const Span& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < spans_.size(); ++i) {
      if (spans_[i].begin < spans_[i - 1].end) return false;
    }
    return true;
  }

  // Whether one overlaps none of them, which are sorted and disjoint. *gap is the index of the
  // first that lies behind it, and where to look first: memory that moves mostly stays between the
  // same neighbours.
  bool is_free(Span span, size_t* gap) const {
    const auto fits = [&](size_t i) {
      return (i == 0 || spans_[i - 1].end <= span.begin) &&
             (i == spans_.size() || span.end <= spans_[i].begin);
    };
    if (*gap <= spans_.size() && fits(*gap)) return true;
    const auto behind =
        std::upper_bound(spans_.begin(), spans_.end(), span.begin,
                         [](uintptr_t begin, const Span& each) { return begin < each.begin; });
    *gap = static_cast<size_t>(behind - spans_.begin());
    return fits(*gap);
  }

 private:
  std::vector<Span> spans_;
};

}  // namespace fused_warmup
