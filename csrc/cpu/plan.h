// One device's step on the CPU: HostPlan's tensors, updated in one parallel region. LARS's norms
// take one of their own before it.
#pragma once

#include <type_traits>

#include "cpu/kernel.h"
#include "host/host_plan.h"

namespace fused_warmup {

// Instruction sets that both this build and this processor have, best last.
std::vector<std::string> cpu_capabilities();

class CpuPlan : public HostPlan {
 public:
  template <typename... Args>
  CpuPlan(const std::string& capability, Args&&... args)
      : HostPlan(std::forward<Args>(args)...),
        capability_(capability),
        kernels_(kernels_for(capability)) {}

  bool skips() const override;
  void launch_norms() override;
  void launch_kernel(bool advance) override;

 private:
  // Those of one instruction set.
  struct Kernels {
    UpdateRange* update;
    UpdateRangeByLars* update_by_lars;
    SumChunk* sum_chunk;
  };

  static Kernels kernels_for(const std::string& capability);
  void lay_out();
  // Calls visit(i, first, last) for each tensor of which a share, which is [first, last) of the
  // line, has a part; shares side by side.
  template <typename Visit>
  void for_each_part(const Visit& visit);
  void update_all(const std::vector<Rates>& rates);
  template <bool Lars>
  void update_parts(const std::vector<Rates>& rates, std::bool_constant<Lars>);

  std::string capability_;

  Kernels kernels_;
  std::vector<int64_t> line_;         // see line.h
  uint64_t laid_out_ = ~uint64_t{0};  // generation that both were chosen for
};

}  // namespace fused_warmup
