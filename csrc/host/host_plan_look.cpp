// Where all lies that a step reads and writes: found in one pass, in which no Python code runs.
#include <algorithm>
#include <cmath>

#include "host/host_plan.h"
#include "host/options.h"

namespace fused_warmup {
namespace {

// So many parameters are asked of memory together before they are looked at.
constexpr size_t BLOCK = 32;

}  // namespace

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

bool HostPlan::look_at_scalars() {
  const auto scalar = [this](const py::object& tensor, const float** out) {
    *out = nullptr;
    if (!tensor || tensor.is_none()) return true;
    DLTensor view;
    if (!view_scalar(tensor.ptr(), &view) || dtype_of(view) != DType::FLOAT32) return false;
    *out = static_cast<const float*>(data_of(view));
    return true;
  };
  DLTensor view;
  if (!view_scalar(t_.ptr(), &view) || !is_int64(view)) return false;
  step_.t = static_cast<int64_t*>(data_of(view));
  if (!view_row(lr_, &view) || dtype_of(view) != DType::FLOAT64) return false;
  step_.lr = static_cast<double*>(data_of(view));
  step_.given = nullptr;
  if (given_) {
    if (!view_row(given_, &view)) return false;
    step_.gives_float = dtype_of(view) == DType::FLOAT32;
    if (!step_.gives_float && dtype_of(view) != DType::FLOAT64) return false;
    step_.given = data_of(view);
  }
  return scalar(grad_scale_, &step_.grad_scale) && scalar(found_inf_, &step_.found_inf);
}

// Looks at a tensor that has, or should have, the layout of parameter i. In full where it is not
// where it was: memory that has been given away may be elsewhere, or smaller.
bool HostPlan::look_at(size_t i, const TensorLook& look, PyObject* object, Place* place,
                       DLTensor* view) const {
  if (!look) {
    if (!view_tensor(object, view) || !same_device(view->device, device_)) return false;
    place->data = view->data;
    return layouts_.match(i, *view);
  }
  if (!look.view(view) || !layouts_.match(i, *view)) return false;
  const int64_t bytes = look.storage_bytes();
  if (view->data == place->data && bytes == place->storage_bytes) return true;
  if (view->data == nullptr && parameters_[i].entry.n_elements > 0) return false;
  if (!look.view_device(&view->device) || !same_device(view->device, device_) ||
      !look.fits_storage(*view, bytes)) {
    return false;
  }
  *place = {view->data, bytes};
  return true;
}

bool HostPlan::look_at_mark(size_t i) {
  Parameter& parameter = parameters_[i];
  if (!parameter.first_step) return true;
  DLTensor view;
  if (!view_scalar(parameter.first_step.ptr(), &view) || !is_int64(view)) return false;
  parameter.entry.first_step = static_cast<int64_t*>(data_of(view));
  return true;
}

// Finds what parameter i has beside the tensors that all have. `view` is of the parameter, and then
// of its master where it has one, which the update reads and writes in its place.
bool HostPlan::look_at_extras(size_t i, DLTensor* view) {
  Parameter& parameter = parameters_[i];
  Extra& extra = extra_tensors_[static_cast<size_t>(parameter.extra)];
  const auto moved = [this](void** at, const DLTensor& found) {
    apart_ = apart_ && *at == data_of(found);
    *at = data_of(found);
  };
  if (extra.ema) {
    const bool wide = parameter.entry.param_dtype == DType::FLOAT64;
    DLTensor ema;
    if (!look_at(i, extra.ema_look, extra.ema.ptr(), &extra.ema_place, &ema) ||
        dtype_of(ema) != (wide ? DType::FLOAT64 : DType::FLOAT32)) {
      return false;
    }
    moved(&extra.entry.ema, ema);
  }
  if (!extra.master) return true;
  if (dtype_of(*view) != extra.entry.rounded_dtype) return false;
  // Somebody has written to the parameter since the last step, or put another tensor in its place:
  // the master is to follow.
  void*& rounded = extra.entry.rounded;
  if ((parameter.tensor_look && parameter.tensor_look.version() != extra.version) ||
      (rounded != nullptr && rounded != data_of(*view))) {
    return false;
  }
  rounded = data_of(*view);
  return look_at(i, extra.master_look, extra.master.ptr(), &extra.master_place, view);
}

// Finds parameter i, its gradient, momentum and mark, if it has a gradient.
bool HostPlan::look_at_parameter(size_t i) {
  Parameter& parameter = parameters_[i];
  TensorEntry& entry = parameter.entry;
  PyObject* tensor = parameter.tensor.ptr();
  if (Py_TYPE(tensor) != parameter.type) return false;

  PyObject* grad_object = nullptr;
  TensorLook grad;
  if (grads_.empty()) {
    grad = parameter.tensor_look.grad();
    parameter.active = static_cast<bool>(grad);
  } else {
    grad_object = grads_[i].ptr();
    parameter.active = grad_object != Py_None;
    if (parameter.active) grad = TensorLook(grad_object);
    if (parameter.active && !grad && reads_libtorch()) return false;
  }
  parameter.grad_look = grad;
  if (!parameter.active) return true;

  const Group& group = groups_[static_cast<size_t>(entry.group)];
  DLTensor view;
  if (!look_at(i, grad, grad_object, &parameter.grad_place, &view)) return false;
  const std::optional<DType> grad_dtype = dtype_of(view);
  if (!grad_dtype) return false;
  const bool moved = entry.grad != data_of(view) || entry.grad_dtype != *grad_dtype;
  entry.grad = data_of(view);
  entry.grad_dtype = *grad_dtype;
  apart_ = apart_ && (!moved || is_apart(parameter));

  if (!look_at(i, parameter.tensor_look, tensor, &parameter.place, &view) ||
      (parameter.extra >= 0 && !look_at_extras(i, &view)) || dtype_of(view) != entry.param_dtype) {
    return false;
  }
  apart_ = apart_ && entry.param == data_of(view);
  entry.param = data_of(view);

  // A mark is kept without dampening, too: there may be some again.
  if (!look_at_mark(i)) return false;
  if (group.momentum == 0) return true;
  if (!parameter.momentum_buffer || (group.dampening != 0 && !parameter.first_step)) return false;
  if (!look_at(i, parameter.momentum_look, parameter.momentum_buffer.ptr(),
               &parameter.momentum_place, &view) ||
      dtype_of(view) != entry.param_dtype) {
    return false;
  }
  apart_ = apart_ && entry.momentum_buffer == data_of(view);
  entry.momentum_buffer = data_of(view);
  return true;
}

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

// Between two steps a model's forward and backward push all that a look reads out of the caches. A
// look waits for each piece in turn, some 25 a parameter; here those of a level are asked for
// together before the next level's addresses are read from them.
void HostPlan::prefetch(size_t begin, size_t end) const {
  const auto for_each = [this, begin, end](auto ask) {
    for (size_t i = begin; i < end; ++i) {
      if (parameters_[i].tensor_look) ask(parameters_[i]);
    }
  };
  for_each([](const Parameter& each) {
    each.tensor_look.prefetch();
    if (each.momentum_look) each.momentum_look.prefetch();
    // Where the elements were: the launch reads them, and most stay.
    const TensorEntry& last = each.entry;
    for (const void* data : {last.param, last.grad, last.momentum_buffer}) __builtin_prefetch(data);
  });
  for_each([](const Parameter& each) {
    each.tensor_look.prefetch_impl();
    if (each.momentum_look) each.momentum_look.prefetch_impl();
  });
  for_each([](const Parameter& each) {
    each.tensor_look.prefetch_parts();
    if (each.momentum_look) each.momentum_look.prefetch_parts();
  });
  for_each([](const Parameter& each) {
    const TensorLook grad = each.tensor_look.grad();
    if (grad) grad.prefetch_impl();
  });
  for_each([](const Parameter& each) {
    const TensorLook grad = each.tensor_look.grad();
    if (grad) grad.prefetch_parts();
  });
}

bool HostPlan::look() {
  if (!look_at_rates() || !look_at_scalars()) return false;
  if (is_lars() && !look_at_norms()) return false;
  entries_.clear();
  extras_.clear();
  n_active_ = 0;
  bool same_active = true;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (i % BLOCK == 0) prefetch(i, std::min(i + BLOCK, parameters_.size()));
    Parameter& parameter = parameters_[i];
    const bool was_active = parameter.active;
    if (!look_at_parameter(i)) {
      ++generation_;  // some of the active flags are new
      apart_ = false;
      return false;
    }
    same_active = same_active && parameter.active == was_active;
    if (!parameter.active) continue;
    ++n_active_;
    if (parameter.entry.n_elements == 0) continue;
    entries_.push_back(parameter.entry);
    if (extra_tensors_.empty()) continue;
    const bool plain = parameter.extra < 0;
    extras_.push_back(plain ? Extras{}
                            : extra_tensors_[static_cast<size_t>(parameter.extra)].entry);
  }
  if (!same_active) {
    ++generation_;
    apart_ = false;
  }
  apart_ = apart_ || find_apart();
  const bool writes_grads = step_.write_grads && step_.grad_scale != nullptr;
  return apart_ && !(writes_grads && grads_overlap());
}

void HostPlan::bump_versions() {
  if (!reads_libtorch()) return;  // read_grads() has
  const bool grads = step_.write_grads && step_.grad_scale != nullptr;
  for (const Parameter& parameter : parameters_) {
    if (!parameter.active) continue;
    parameter.tensor_look.bump_version();
    const Group& group = groups_[static_cast<size_t>(parameter.entry.group)];
    if (group.momentum != 0) parameter.momentum_look.bump_version();
    if (grads) parameter.grad_look.bump_version();
    if (parameter.extra < 0) continue;
    Extra& extra = extra_tensors_[static_cast<size_t>(parameter.extra)];
    if (extra.ema) extra.ema_look.bump_version();
    if (!extra.master) continue;
    extra.master_look.bump_version();
    extra.version = parameter.tensor_look.version();
  }
}

}  // namespace fused_warmup
