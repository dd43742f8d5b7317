// One CUDA device's step: HostPlan's tensors, updated in one launch on torch's current stream.
#pragma once

#include "cuda/launcher.h"
#include "host/host_plan.h"

namespace fused_warmup {

class CudaPlan : public HostPlan {
 public:
  template <typename... Args>
  explicit CudaPlan(Args&&... args)
      : HostPlan(std::forward<Args>(args)...), launcher_(device_.device_id, groups_.size()) {}

  // Enqueues the step; whether found_inf skips it is known on the device.
  void launch_kernel(bool advance) override;

  size_t n_captured() const { return launcher_.n_captured(); }

  // Gives the groups' present options to launches recorded in CUDA graphs. False where they are
  // not plain numbers or tensors of this device.
  bool update_captured(const py::list& groups);

 private:
  void* current_stream() const;

  cuda::Launcher launcher_;
};

}  // namespace fused_warmup
