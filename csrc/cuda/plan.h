// One CUDA device's step: HostPlan's tensors, updated in one launch on torch's current stream.
#pragma once

#include "cuda/launcher.h"
#include "host/host_plan.h"

namespace fused_warmup {

class CudaPlan : public HostPlan {
 public:
  template <typename... Args>
  explicit CudaPlan(Args&&... args)
      : HostPlan(std::forward<Args>(args)...),
        launcher_(device_.device_id, n_parameters(), groups_, schedules_, torch_memory(),
                  is_lars()) {}

  // What may wait or run Python is done here: device memory is asked for, and while all buffers are
  // full Python's lock is left to others.
  bool read(const StepInputs& inputs) override;
  void stage() override;
  void launch_norms() override;
  // Enqueues the step; whether found_inf skips it is known on the device.
  void launch_kernel(bool advance) override;

  size_t n_captured() const { return launcher_.n_captured(); }

  // Gives the groups' present options to launches recorded in CUDA graphs. False where they are
  // not plain numbers or tensors of this device.
  bool update_captured(const py::list& groups);

 private:
  // PyTorch's allocator.
  std::shared_ptr<cuda::Memory> torch_memory() const;
  void* current_stream() const;

  cuda::Launcher launcher_;
};

// Raises torch.OutOfMemoryError for cuda::OutOfMemory, as trainers expect.
void translate_out_of_memory();

}  // namespace fused_warmup
