// Where all lies that a step reads and writes: found in one pass, in which no Python code runs.
#include <algorithm>

#include "host/host_plan.h"

namespace fused_warmup {
namespace {

// So many parameters are asked of memory together. More are ahead of what a first-level cache
// holds.
constexpr int64_t BLOCK = 2;
constexpr int64_t N_LEVELS = 5;  // what leads to a gradient's memory, one piece after the other

}  // namespace

// Finds a tensor that has, or should have, the layout of parameter i. Most have the form that was
// found to have it.
inline bool HostPlan::find(size_t i, const TensorLook& look, PyObject* object, Place* place) {
  return forms_.still_fit(look, place) || find_anew(i, look, object, place);
}

// In full: memory that has been given away may be elsewhere, or smaller.
bool HostPlan::find_anew(size_t i, const TensorLook& look, PyObject* object, Place* place) {
  DLTensor view;
  if (!(look ? view_tensor(look, &view) : view_tensor(object, &view)) ||
      !same_device(view.device, device_) || !layouts_.match(i, view)) {
    return false;
  }
  const std::optional<DType> dtype = dtype_of(view);
  if (!dtype) return false;
  *place = {data_of(view), forms_.form_of(look, view), *dtype};
  return true;
}

// Has the entries point to what is written where it has been found.
void HostPlan::follow(void** at, void* found) {
  if (*at == found) return;
  *at = found;
  are_entries_good_ = apart_ = false;
}

bool HostPlan::look_at_mark(size_t i) {
  Parameter& parameter = parameters_[i];
  if (!parameter.first_step) return true;
  DLTensor view;
  if (!view_scalar(parameter.first_step.ptr(), &view) || !is_int64(view)) return false;
  int64_t* const mark = static_cast<int64_t*>(data_of(view));
  are_entries_good_ = are_entries_good_ && parameter.entry.first_step == mark;
  parameter.entry.first_step = mark;
  return true;
}

// Finds what parameter i has beside the tensors that all have. `place` is of the parameter, and
// then of its master where it has one, which the update reads and writes in its place.
bool HostPlan::look_at_extras(size_t i, const Place** place) {
  Parameter& parameter = parameters_[i];
  Extra& extra = extra_tensors_[static_cast<size_t>(parameter.extra)];
  if (extra.ema) {
    const bool wide = parameter.entry.param_dtype == DType::FLOAT64;
    if (!find(i, extra.ema_look, extra.ema.ptr(), &extra.ema_place) ||
        extra.ema_place.dtype != (wide ? DType::FLOAT64 : DType::FLOAT32)) {
      return false;
    }
    follow(&extra.entry.ema, extra.ema_place.data);
  }
  if (!extra.master) return true;
  if (parameter.place.dtype != extra.entry.rounded_dtype) return false;
  // Somebody has written to the parameter since the last step, or put another tensor in its place:
  // the master is to follow.
  void*& rounded = extra.entry.rounded;
  if ((parameter.tensor_look && parameter.tensor_look.version() != extra.version) ||
      (rounded != nullptr && rounded != parameter.place.data)) {
    return false;
  }
  follow(&rounded, parameter.place.data);
  *place = &extra.master_place;
  return find(i, extra.master_look, extra.master.ptr(), &extra.master_place);
}

bool HostPlan::look_at_grad(size_t i, const TensorLook& grad, PyObject* object) {
  Parameter& parameter = parameters_[i];
  TensorEntry& entry = parameter.entry;
  if (!find(i, grad, object, &parameter.grad_place)) return false;
  const Place& place = parameter.grad_place;
  if (entry.grad == place.data && entry.grad_dtype == place.dtype) return true;
  entry.grad = place.data;
  entry.grad_dtype = place.dtype;
  are_entries_good_ = false;
  apart_ = apart_ && is_apart(parameter);
  return true;
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
  if (!look_at_grad(i, grad, grad_object)) return false;

  const Place* place = &parameter.place;
  if (!find(i, parameter.tensor_look, tensor, &parameter.place) ||
      (parameter.extra >= 0 && !look_at_extras(i, &place)) || place->dtype != entry.param_dtype) {
    return false;
  }
  follow(&entry.param, place->data);

  // A mark is kept without dampening, too: there may be some again.
  if (!look_at_mark(i)) return false;
  const Group& group = groups_[static_cast<size_t>(entry.group)];
  if (group.momentum == 0) return true;
  if (!parameter.momentum_buffer || (group.dampening != 0 && !parameter.first_step)) return false;
  if (!find(i, parameter.momentum_look, parameter.momentum_buffer.ptr(),
            &parameter.momentum_place) ||
      parameter.momentum_place.dtype != entry.param_dtype) {
    return false;
  }
  follow(&entry.momentum_buffer, parameter.momentum_place.data);
  return true;
}

// Between two steps a model's forward and backward push all that a look reads out of the caches. A
// look would wait for each piece in turn, some 25 a parameter. So those of the parameters to come
// are asked for, level by level: a block's next level when the one before it, whose words say where
// it is, has had the time of a block to arrive. `i` is the parameter that is looked at next, or
// before the first, where the first blocks are asked for.
void HostPlan::prefetch(int64_t i) {
  if (!torch_words.found) return;
  const auto ahead = [this, i](int64_t n_blocks, auto ask) {
    const int64_t begin = i + n_blocks * BLOCK;
    const int64_t end = std::min(begin + BLOCK, static_cast<int64_t>(parameters_.size()));
    if (begin < 0) return;
    for (int64_t k = begin; k < end; ++k) {
      Parameter& each = parameters_[static_cast<size_t>(k)];
      if (each.tensor_look) ask(each);
    }
  };
  ahead(N_LEVELS, [](const Parameter& each) {
    __builtin_prefetch(each.tensor.ptr());  // its type
    each.tensor_look.prefetch();
    if (each.momentum_look) each.momentum_look.prefetch();
  });
  ahead(4, [](const Parameter& each) {
    each.tensor_look.prefetch_impl();
    if (each.momentum_look) each.momentum_look.prefetch_impl();
  });
  ahead(3, [this](const Parameter& each) {
    each.tensor_look.prefetch_record();
    each.tensor_look.prefetch_storage();
    if (each.momentum_look) each.momentum_look.prefetch_storage();
    if (has_many()) return;
    each.tensor_look.prefetch_version();
    if (each.momentum_look) each.momentum_look.prefetch_version();
  });
  ahead(2, [](Parameter& each) {
    each.grad_look = each.tensor_look.grad();
    if (each.grad_look) each.grad_look.prefetch_impl();
  });
  ahead(1, [](const Parameter& each) {
    if (each.grad_look) each.grad_look.prefetch_storage();
  });
}

bool HostPlan::look_at_parameters(bool* same_active) {
  for (int64_t i = -N_LEVELS * BLOCK; i < 0; i += BLOCK) prefetch(i);
  n_active_ = 0;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (i % BLOCK == 0) prefetch(static_cast<int64_t>(i));
    Parameter& parameter = parameters_[i];
    const bool was_active = parameter.active;
    if (!look_at_parameter(i)) return false;
    *same_active = *same_active && parameter.active == was_active;
    n_active_ += parameter.active;
  }
  return true;
}

// Lists what the launch touches, if anything of it has changed.
void HostPlan::list_entries() {
  if (are_entries_good_) return;
  entries_.clear();
  extras_.clear();
  for (const Parameter& parameter : parameters_) {
    if (!parameter.active || parameter.entry.n_elements == 0) continue;
    entries_.push_back(parameter.entry);
    if (extra_tensors_.empty()) continue;
    const bool plain = parameter.extra < 0;
    extras_.push_back(plain ? Extras{}
                            : extra_tensors_[static_cast<size_t>(parameter.extra)].entry);
  }
  are_entries_good_ = true;
}

bool HostPlan::look() {
  if (!look_at_rates() || !look_at_scalars()) return false;
  if (is_lars() && !look_at_norms()) return false;
  bool same_active = true;
  const bool found = look_at_parameters(&same_active);
  if (!found || !same_active) {
    ++generation_;  // some of the active flags are new
    are_entries_good_ = apart_ = false;
  }
  if (!found) return false;
  list_entries();
  apart_ = apart_ || find_apart();
  const bool writes_grads = step_.write_grads && step_.grad_scale != nullptr;
  return apart_ && !(writes_grads && grads_overlap());
}

// An atomic addition lets nothing after it begin, so that each version would be waited for in turn.
void HostPlan::prefetch_versions(size_t i) const {
  const auto ahead = [this, i](size_t n, auto ask) {
    if (i + n >= parameters_.size()) return;
    const Parameter& each = parameters_[i + n];
    ask(each.tensor_look);
    if (each.momentum_look) ask(each.momentum_look);
  };
  ahead(3 * BLOCK, [](const TensorLook& look) { look.prefetch(); });
  ahead(2 * BLOCK, [](const TensorLook& look) { look.prefetch_parts(); });
  ahead(BLOCK, [](const TensorLook& look) { look.prefetch_version(); });
}

void HostPlan::bump_versions() {
  if (!reads_libtorch()) return;  // read_grads() has
  const bool grads = step_.write_grads && step_.grad_scale != nullptr;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (has_many() && torch_words.found) prefetch_versions(i);
    const Parameter& parameter = parameters_[i];
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
