// Where the tensors lie that a plan has once, or one element a group of: rates, scalars, LARS's
// norms.
#include <cmath>

#include "host/host_plan.h"
#include "host/options.h"

namespace fused_warmup {

// A tensor of one element on the plan's device.
bool HostPlan::view_scalar(PyObject* tensor, DLTensor* view) const {
  return view_tensor(tensor, view) && same_device(view->device, device_) &&
         n_elements_of(*view) == 1;
}

bool HostPlan::look_at_rates() {
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (!lr_tensors_[i]) continue;
    Group& group = groups_[i];
    DLTensor view;
    if (!view_scalar(lr_tensors_[i].ptr(), &view)) return false;
    const std::optional<DType> dtype = dtype_of(view);
    if (!dtype) return false;
    group.lr_ptr = data_of(view);
    group.lr_dtype = *dtype;
    if (device_.device_type != kDLCPU) continue;  // reading it would wait for the device
    const double value = base_lr(group);
    if (!std::isfinite(value) || value < LEAST_LR) return false;
  }
  return true;
}

// The plan's own tensors: nobody else has them to change.
bool HostPlan::look_at_norms() {
  void* data[3];
  for (size_t i = 0; i < 3; ++i) {
    DLTensor view;
    if (!view_tensor(norm_tensors_[i].ptr(), &view) || !same_device(view.device, device_)) {
      return false;
    }
    data[i] = data_of(view);
  }
  norms_ = {static_cast<double*>(data[0]), static_cast<double*>(data[1]),
            static_cast<uint32_t*>(data[2])};
  return true;
}

// One element a group, next to each other.
bool HostPlan::view_row(const py::object& tensor, DLTensor* view) const {
  return view_tensor(tensor.ptr(), view) && same_device(view->device, device_) && view->ndim == 1 &&
         view->shape[0] == static_cast<int64_t>(groups_.size()) &&
         (view->shape[0] <= 1 || view->strides[0] == 1);
}

// Finds one of the plan's own tensors; fits(&view) views it in full, where it is not as it was.
template <typename Fits>
bool HostPlan::find_own(const py::object& tensor, Place* place, Fits fits) {
  const TensorLook look(tensor.ptr());
  if (forms_.still_fit(look, place)) return true;
  DLTensor view;
  if (!fits(&view)) return false;
  place->data = data_of(view);
  place->form = forms_.form_of(look, view);
  return true;
}

bool HostPlan::look_at_scalars() {
  const auto scalar = [this](const py::object& tensor, const float** out) {
    *out = nullptr;
    if (!tensor || tensor.is_none()) return true;
    DLTensor view;
    if (!view_scalar(tensor.ptr(), &view) || dtype_of(view) != DType::FLOAT32) return false;
    *out = static_cast<const float*>(data_of(view));
    return true;
  };
  const auto is_count = [this](DLTensor* view) {
    return view_scalar(t_.ptr(), view) && is_int64(*view);
  };
  const auto is_row = [this](DLTensor* view) {
    return view_row(lr_, view) && dtype_of(*view) == DType::FLOAT64;
  };
  if (!find_own(t_, &t_place_, is_count) || !find_own(lr_, &lr_place_, is_row)) return false;
  step_.t = static_cast<int64_t*>(t_place_.data);
  step_.lr = static_cast<double*>(lr_place_.data);
  step_.given = nullptr;
  if (given_) {
    DLTensor view;
    if (!view_row(given_, &view)) return false;
    step_.gives_float = dtype_of(view) == DType::FLOAT32;
    if (!step_.gives_float && dtype_of(view) != DType::FLOAT64) return false;
    step_.given = data_of(view);
  }
  return scalar(grad_scale_, &step_.grad_scale) && scalar(found_inf_, &step_.found_inf);
}

}  // namespace fused_warmup
