// One device's step on the CPU: HostPlan's tensors, updated in one parallel region.
#pragma once

#include "cpu/kernel.h"
#include "host/host_plan.h"

namespace fused_warmup {

// Instruction sets that both this build and this processor have, best last.
std::vector<std::string> cpu_capabilities();

class CpuPlan : public HostPlan {
 public:
  template <typename... Args>
  CpuPlan(const std::string& capability, Args&&... args)
      : HostPlan(std::forward<Args>(args)...), update_(kernel_for(capability)) {}

  bool skips() const override;
  void launch_kernel(bool advance) override;

 private:
  static UpdateRange kernel_for(const std::string& capability);
  void update_all(const std::vector<Rates>& rates);

  UpdateRange update_;

  std::vector<int64_t> line_;         // see line.h
  uint64_t laid_out_ = ~uint64_t{0};  // generation that line_ was made for
};

}  // namespace fused_warmup
