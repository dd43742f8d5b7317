// Whether tensors of a step share memory.
#include <algorithm>

#include "host/host_plan.h"

namespace fused_warmup {

// A launch updates its tensors side by side. Where one reads or writes what another writes, the
// order counts; where a parameter's own tensors do, torch's operations know what that comes to.
bool HostPlan::find_apart() {
  written_.clear();
  for (const TensorEntry& entry : entries_) {
    written_.push_back(span_of(entry.param, entry.n_elements, entry.param_dtype));
    if (entry.momentum_buffer != nullptr) {
      written_.push_back(span_of(entry.momentum_buffer, entry.n_elements, entry.param_dtype));
    }
  }
  for (size_t i = 0; i < extras_.size(); ++i) {
    const int64_t n_elements = entries_[i].n_elements;
    const DType wide = entries_[i].param_dtype == DType::FLOAT64 ? DType::FLOAT64 : DType::FLOAT32;
    if (extras_[i].ema) written_.push_back(span_of(extras_[i].ema, n_elements, wide));
    if (extras_[i].rounded) {
      written_.push_back(span_of(extras_[i].rounded, n_elements, extras_[i].rounded_dtype));
    }
  }
  if (!written_.sort()) return false;
  return std::all_of(parameters_.begin(), parameters_.end(),
                     [this](Parameter& each) { return !each.active || is_apart(each); });
}

// Whether a gradient lies in no memory that the launch updates.
bool HostPlan::is_apart(Parameter& parameter) const {
  const TensorEntry& entry = parameter.entry;
  if (entry.n_elements == 0) return true;
  return written_.is_free(span_of(entry.grad, entry.n_elements, entry.grad_dtype), &parameter.gap);
}

bool HostPlan::reads_from(const HostPlan& other) const {
  size_t gap = 0;
  return std::any_of(entries_.begin(), entries_.end(), [&](const TensorEntry& entry) {
    return !other.written_.is_free(span_of(entry.grad, entry.n_elements, entry.grad_dtype), &gap);
  });
}

bool HostPlan::grads_overlap() const {
  Spans grads;
  for (const TensorEntry& entry : entries_) {
    grads.push_back(span_of(entry.grad, entry.n_elements, entry.grad_dtype));
  }
  return !grads.sort();
}

}  // namespace fused_warmup
