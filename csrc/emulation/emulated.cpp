#include "emulation/emulated.h"

#include <algorithm>

#include "emulation/blocks.h"

namespace fused_warmup {

using namespace cuda;

void EmulatedPlan::launch_kernel(bool advance) {
  if (built_ != generation_) {
    tables_.build(entries_, groups_, schedules_, resident_blocks_);
    built_ = generation_;
  } else {
    tables_.update(entries_, groups_);
  }
  step_.advance = advance;
  tables_.relocate(tables_.data());
  const LaunchArgs args = tables_.args(tables_.data(), step_, &ticket_);

  std::vector<int> order;
  for (const int block : order_) {
    if (block >= 0 && block < tables_.n_blocks()) order.push_back(block);
  }
  for (int block = 0; block < tables_.n_blocks(); ++block) {
    if (std::find(order.begin(), order.end(), block) == order.end()) order.push_back(block);
  }
  run_blocks(args, tables_.dtypes(), order);
}

}  // namespace fused_warmup
