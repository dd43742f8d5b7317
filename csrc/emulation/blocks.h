// The CUDA kernel's body on the host, block by block and thread by thread.
#pragma once

#include <vector>

#include "cuda/tables.h"

namespace fused_warmup {
namespace cuda {

// One launch. order: its blocks, in the order in which they take their tickets. All compute their
// rates before the first takes its ticket, as blocks may.
void run_blocks(const LaunchArgs& args, DTypes dtypes, const std::vector<int>& order);
// The second launch of LARS, in the same way; and the first.
void run_blocks(const LarsArgs& args, DTypes dtypes, const std::vector<int>& order);
void run_norms(const LarsArgs& args, const std::vector<int>& order);

}  // namespace cuda
}  // namespace fused_warmup
