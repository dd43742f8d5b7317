// The CPU kernel's face: cpu_kernel.cpp is compiled once for each instruction set, each copy in a
// namespace of its own, and plan.cpp picks one when the program runs.
#pragma once

#include "launch/plan.h"

namespace fused_warmup {

// Updates elements [begin, end) of one tensor.
using UpdateRange = void (*)(const TensorEntry& tensor, const Group& group, const StepScalars& step,
                             const Rates& rates, bool first_step, int64_t begin, int64_t end);

namespace DEFAULT {
void update_range(const TensorEntry&, const Group&, const StepScalars&, const Rates&, bool, int64_t,
                  int64_t);
}
namespace AVX2 {
void update_range(const TensorEntry&, const Group&, const StepScalars&, const Rates&, bool, int64_t,
                  int64_t);
}
namespace AVX512 {
void update_range(const TensorEntry&, const Group&, const StepScalars&, const Rates&, bool, int64_t,
                  int64_t);
}

}  // namespace fused_warmup
