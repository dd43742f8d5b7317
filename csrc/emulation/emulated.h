// A step by the CUDA kernel's body on the host: how tests without a GPU compare it with the
// reference. Not a backend.
#pragma once

#include <algorithm>

#include "cuda/tables.h"
#include "host/host_plan.h"

namespace fused_warmup {

class EmulatedPlan : public HostPlan {
 public:
  template <typename... Args>
  EmulatedPlan(int resident_blocks, Args&&... args)
      : HostPlan(std::forward<Args>(args)...), resident_blocks_(std::max(resident_blocks, 1)) {}

  // Order in which blocks take their tickets in the next launches; those not named come after, in
  // order. All blocks compute their rates before the first takes its ticket, as blocks may.
  void set_block_order(const std::vector<int>& order) { order_ = order; }

  void launch_kernel(bool advance) override;

  int n_blocks() const { return tables_.n_blocks(); }
  uint32_t ticket() const { return ticket_; }

 private:
  int resident_blocks_;
  std::vector<int> order_;
  cuda::Tables tables_;
  uint64_t built_ = ~uint64_t{0};
  uint32_t ticket_ = 0;
};

}  // namespace fused_warmup
