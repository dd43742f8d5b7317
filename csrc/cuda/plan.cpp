#include "cuda/plan.h"

namespace fused_warmup {

void* CudaPlan::current_stream() const {
  void* stream = nullptr;
  if (exchange_api()->current_work_stream(device_.device_type, device_.device_id, &stream) != 0) {
    throw py::error_already_set();
  }
  return stream;
}

void CudaPlan::launch_kernel(bool advance) {
  step_.advance = advance;
  launcher_.launch(entries_, groups_, schedules_, step_, generation_, current_stream());
}

bool CudaPlan::update_captured(const py::list& groups) {
  if (!read_groups(groups) || !look_at_rates()) return false;
  launcher_.update_captured(groups_, current_stream());
  return true;
}

}  // namespace fused_warmup
