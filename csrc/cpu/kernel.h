// The CPU kernels' face: kernel.cpp and norms.cpp are compiled once for each instruction set, each
// copy in a namespace of its own, and plan.cpp picks one when the program runs.
#pragma once

#include "launch/plan.h"

namespace fused_warmup {

// Updates elements [begin, end) of one tensor. extras: null where it has none.
using UpdateRange = void(const TensorEntry& tensor, const Extras* extras, const Group& group,
                         const StepScalars& step, const Rates& rates, bool first_step,
                         int64_t begin, int64_t end);
// Likewise by LARS. squares: of the tensor's row, see lars.h.
using UpdateRangeByLars = void(const TensorEntry& tensor, const Extras* extras, const Group& group,
                               const StepScalars& step, const Rates& rates, bool first_step,
                               int64_t begin, int64_t end, const double* squares);

// Sums the squares of elements [begin, end) of a tensor and of its unscaled gradient, a chunk.
using SumChunk = void(const TensorEntry& tensor, const float* grad_scale, int64_t begin,
                      int64_t end, double* squares);

namespace DEFAULT {
UpdateRange update_range;
UpdateRangeByLars update_range_by_lars;
SumChunk sum_chunk;
}  // namespace DEFAULT
namespace AVX2 {
UpdateRange update_range;
UpdateRangeByLars update_range_by_lars;
SumChunk sum_chunk;
}  // namespace AVX2
namespace AVX512 {
UpdateRange update_range;
UpdateRangeByLars update_range_by_lars;
SumChunk sum_chunk;
}  // namespace AVX512

}  // namespace fused_warmup
