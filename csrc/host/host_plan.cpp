#include "host/host_plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "host/options.h"
#include "host/packed.h"

namespace fused_warmup {
namespace {

// So many parameters are asked of memory together before they are looked at.
constexpr size_t BLOCK = 32;

// As in fused_warmup/_groups/options.py: a scheduler that ends at 0 may come out a rounding below.
constexpr double LEAST_LR = -1e-12;

// Interned once: a dict look-up then compares pointers.
PyObject* name(const char* text) { return PyUnicode_InternFromString(text); }

// Not by its repr: torch would read memory that may be gone.
[[noreturn]] void refuse(const py::object& tensor) {
  throw py::type_error("no native kernel for a " + std::string(py::str(tensor.attr("dtype"))) +
                       " tensor of shape " + std::string(py::str(tensor.attr("shape"))) + " on " +
                       std::string(py::str(tensor.attr("device"))) +
                       ": it must be dense, with memory of its own, on the device of the plan");
}

// A Python list or None, as a list of objects of which None is a null.
py::object item_or_null(const py::list& list, size_t i) {
  const auto item = py::reinterpret_borrow<py::object>(list[i]);
  return item.is_none() ? py::object() : item;
}

// Whether a parameter's .grad is torch's attribute, with no code of a subclass's before it.
bool has_own_grad(const py::object& tensor, const py::object& torch_grad) {
  const py::type type = py::type::of(tensor);
  static PyObject* const get =
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(&PyBaseObject_Type), "__getattribute__");
  return py::getattr(type, "grad").is(torch_grad) && type.attr("__getattribute__").ptr() == get;
}

// Whether group["lr"] is what the dict itself holds.
bool is_plain_dict(PyObject* group) {
  if (PyDict_CheckExact(group)) return true;
  if (!PyDict_Check(group)) return false;
  static PyObject* const get =
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(&PyDict_Type), "__getitem__");
  const auto own = py::reinterpret_steal<py::object>(
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(group)), "__getitem__"));
  if (!own) PyErr_Clear();
  return own.ptr() == get;
}

}  // namespace

HostPlan::HostPlan(const py::list& params, const py::list& momentum_buffers,
                   const py::list& first_steps, const std::vector<int32_t>& group_of,
                   const py::list& schedules, const std::vector<int32_t>& schedule_of,
                   const std::vector<int32_t>& momentum_schedule_of, const py::object& t,
                   const py::object& lr, const py::list& emas, const py::list& masters,
                   const std::vector<int32_t>& ema_schedule_of, const py::object& norms)
    : averages_(schedule_of.size()),
      schedule_of_(schedule_of),
      momentum_schedule_of_(momentum_schedule_of),
      ema_schedule_of_(ema_schedule_of),
      t_(t),
      lr_(lr),
      active_(py::list()) {
  check_indices("group_of", group_of, params.size(), 0, schedule_of.size());
  check_indices("schedule_of", schedule_of, schedule_of.size(), -1, schedules.size());
  check_indices("momentum_schedule_of", momentum_schedule_of, schedule_of.size(), -1,
                schedules.size());
  if (ema_schedule_of_.empty()) ema_schedule_of_.assign(schedule_of.size(), -1);
  check_indices("ema_schedule_of", ema_schedule_of_, schedule_of.size(), -1, schedules.size());
  DLTensor count;
  if (!view_tensor(t.ptr(), &count)) refuse(t);
  device_ = count.device;
  const py::object grad = py::module_::import("torch").attr("Tensor").attr("grad");
  parameters_.reserve(params.size());
  for (size_t i = 0; i < params.size(); ++i) {
    add_parameter(params[i], item_or_null(momentum_buffers, i), item_or_null(first_steps, i),
                  group_of[i], grad, emas.empty() ? py::object() : item_or_null(emas, i),
                  masters.empty() ? py::object() : item_or_null(masters, i));
  }
  for (const py::handle packed : schedules) {
    const py::tuple pair = packed.cast<py::tuple>();
    values_.push_back(pair[1].cast<std::vector<double>>());
    segments_.push_back(unpack_segments(pair[0].cast<py::bytes>(), values_.back().size()));
  }
  for (size_t i = 0; i < segments_.size(); ++i) {
    schedules_.push_back(make_schedule(segments_[i].data(),
                                       static_cast<int64_t>(segments_[i].size()), values_[i].data(),
                                       static_cast<int64_t>(values_[i].size())));
  }
  groups_.resize(schedule_of_.size());
  lr_tensors_.resize(groups_.size());
  if (norms.is_none()) return;
  for (const char* each : {"squares", "partials", "tickets"}) {
    norm_tensors_.push_back(norms.attr(each));
  }
  const auto rows = norms.attr("rows").cast<std::vector<int32_t>>();
  check_indices("rows", rows, params.size(), 0,
                norms.attr("squares").attr("shape")[py::int_(0)].cast<size_t>());
  for (size_t i = 0; i < parameters_.size(); ++i) parameters_[i].entry.row = rows[i];
}

void HostPlan::add_parameter(const py::object& tensor, const py::object& momentum_buffer,
                             const py::object& first_step, int32_t group,
                             const py::object& torch_grad, const py::object& ema,
                             const py::object& master) {
  const size_t i = parameters_.size();
  // Its memory may be elsewhere for now (an offloader's), until it has a gradient.
  const TensorLook look(tensor.ptr());
  DLTensor view;
  if (look ? !look.view(&view) || !look.view_device(&view.device)
           : !view_tensor(tensor.ptr(), &view)) {
    refuse(tensor);
  }
  const std::optional<DType> dtype = dtype_of(view);
  if (!dtype || !same_device(view.device, device_)) refuse(tensor);
  layouts_.push_back(view);
  Parameter parameter{};
  parameter.tensor = tensor;
  parameter.tensor_look = look;
  parameter.type = Py_TYPE(tensor.ptr());
  parameter.own_grad = has_own_grad(tensor, torch_grad);
  asks_for_grads_ = asks_for_grads_ || !parameter.own_grad || !parameter.tensor_look;
  parameter.entry.param = data_of(view);
  parameter.entry.param_dtype = master ? DType::FLOAT32 : *dtype;
  parameter.entry.n_elements = n_elements_of(view);
  parameter.entry.group = group;
  parameter.extra = -1;
  if (ema || master) {
    parameter.extra = static_cast<int32_t>(extra_tensors_.size());
    Extra extra;
    extra.ema = ema;
    extra.master = master;
    if (ema) extra.ema_look = TensorLook(ema.ptr());
    if (master) extra.master_look = TensorLook(master.ptr());
    if (master && look) extra.version = look.version();
    extra.entry.rounded_dtype = *dtype;
    extra_tensors_.push_back(std::move(extra));
    if (ema) averages_[static_cast<size_t>(group)] = true;
  }
  // A buffer that is not like its parameter has been left behind while there was no momentum.
  if (momentum_buffer && view_tensor(momentum_buffer.ptr(), &view) && layouts_.match(i, view) &&
      dtype_of(view) == parameter.entry.param_dtype && same_device(view.device, device_)) {
    parameter.momentum_buffer = momentum_buffer;
    parameter.momentum_look = TensorLook(momentum_buffer.ptr());
    parameter.entry.momentum_buffer = data_of(view);
  }
  if (first_step) {
    parameter.first_step = first_step;
    parameter.mark_look = TensorLook(first_step.ptr());
  }
  parameters_.push_back(std::move(parameter));
}

bool HostPlan::has_group(size_t group) const {
  return std::any_of(parameters_.begin(), parameters_.end(), [group](const Parameter& each) {
    return static_cast<size_t>(each.entry.group) == group;
  });
}

bool HostPlan::in_range(const Group& group) const {
  const auto good = [](double value) { return std::isfinite(value) && value >= 0; };
  return std::isfinite(group.lr) && group.lr >= LEAST_LR && good(group.weight_decay) &&
         good(group.momentum) && std::isfinite(group.dampening);
}

// How a group's averages move, where it has some.
bool HostPlan::read_averaging(PyObject* dict, bool may_ask, Group* group) const {
  static PyObject* const decay = name("ema_decay");
  static PyObject* const every = name("ema_every");
  static PyObject* const start = name("ema_start");
  if (!read_number(dict, decay, may_ask, &group->ema_decay) || !(group->ema_decay >= 0) ||
      group->ema_decay > 1 || !read_count(dict, every, &group->ema_every) || group->ema_every < 1) {
    return false;
  }
  PyObject* first = PyDict_GetItem(dict, start);
  if (first == Py_None) return true;
  return read_count(dict, start, &group->ema_start) && group->ema_start >= 0;
}

// A tensor of one element on the plan's device.
bool HostPlan::view_scalar(PyObject* tensor, DLTensor* view) const {
  return view_tensor(tensor, view) && same_device(view->device, device_) &&
         n_elements_of(*view) == 1;
}

bool HostPlan::read_groups(const py::list& groups, bool may_ask) {
  static PyObject* const lr = name("lr");
  static PyObject* const weight_decay = name("weight_decay");
  static PyObject* const momentum = name("momentum");
  static PyObject* const dampening = name("dampening");
  static PyObject* const nesterov = name("nesterov");
  static PyObject* const maximize = name("maximize");
  static PyObject* const differentiable = name("differentiable");

  for (size_t i = 0; i < groups_.size(); ++i) {
    if (groups.size() != groups_.size()) return false;  // a number's own code may change the list
    const py::object held = groups[i];
    PyObject* dict = held.ptr();
    if (!is_plain_dict(dict)) return false;
    Group& group = groups_[i];
    group.schedule = schedule_of_[i];
    group.momentum_schedule = momentum_schedule_of_[i];
    group.ema_schedule = ema_schedule_of_[i];
    group.ema_every = 1;
    group.ema_start = -1;
    group.lr = 0.0;
    group.lr_ptr = nullptr;
    group.lr_dtype = DType::FLOAT64;
    lr_tensors_[i] = py::object();
    PyObject* by_autograd = PyDict_GetItem(dict, differentiable);
    if (by_autograd != nullptr && by_autograd != Py_False && has_group(i)) return false;
    PyObject* rate = PyDict_GetItem(dict, lr);
    if (rate != nullptr && is_tensor(rate)) {
      lr_tensors_[i] = py::reinterpret_borrow<py::object>(rate);
    } else if (!read_number(dict, lr, may_ask, &group.lr)) {
      return false;
    }
    if (!read_number(dict, weight_decay, may_ask, &group.weight_decay) ||
        !read_number(dict, momentum, may_ask, &group.momentum) ||
        !read_number(dict, dampening, may_ask, &group.dampening) ||
        !read_flag(dict, nesterov, may_ask, &group.nesterov) ||
        !read_flag(dict, maximize, may_ask, &group.maximize) || !in_range(group)) {
      return false;
    }
    if (is_lars() && !read_lars(dict, may_ask, &group)) return false;
    if (averages_[i] && !read_averaging(dict, may_ask, &group)) return false;
  }
  return groups.size() == groups_.size();
}

bool HostPlan::read_lars(PyObject* group, bool may_ask, Group* out) const {
  static PyObject* const trust_coefficient = name("trust_coefficient");
  static PyObject* const eps = name("eps");
  static PyObject* const adapt = name("adapt");
  static PyObject* const trust_clip = name("trust_clip");
  static PyObject* const lr_in_momentum = name("lr_in_momentum");
  const auto good = [](double value) { return std::isfinite(value) && value >= 0; };
  return read_number(group, trust_coefficient, may_ask, &out->trust_coefficient) &&
         read_number(group, eps, may_ask, &out->trust_eps) &&
         read_flag(group, adapt, may_ask, &out->adapt) &&
         read_flag(group, trust_clip, may_ask, &out->trust_clip) &&
         read_flag(group, lr_in_momentum, may_ask, &out->lr_in_momentum) &&
         good(out->trust_coefficient) && good(out->trust_eps);
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

void HostPlan::read_grads(const py::object& grads) {
  static PyObject* const grad_name = name("grad");
  // What goes may run Python code, which must find the plan in order.
  const std::vector<py::object> before = std::move(grads_);
  grads_.clear();
  if (!grads.is_none()) {
    const auto list = grads.cast<py::list>();
    for (const py::handle each : list) {
      grads_.push_back(py::reinterpret_borrow<py::object>(each));
    }
  } else if (asks_for_grads_) {
    grads_.reserve(parameters_.size());
    for (const Parameter& parameter : parameters_) {
      auto grad =
          py::reinterpret_steal<py::object>(PyObject_GetAttr(parameter.tensor.ptr(), grad_name));
      if (!grad) throw py::error_already_set();
      grads_.push_back(std::move(grad));
    }
  }
  if (reads_libtorch()) return;
  // Only Python can tell autograd then, and it must before the last look.
  py::list written;
  for (size_t i = 0; i < grads_.size() && i < parameters_.size(); ++i) {
    if (grads_[i].is_none()) continue;
    written.append(parameters_[i].tensor);
    if (step_.write_grads && grad_scale_ && !grad_scale_.is_none()) written.append(grads_[i]);
  }
  py::module_::import("torch.autograd.graph").attr("increment_version")(written);
}

bool HostPlan::read(const StepInputs& inputs) {
  is_measured_ = false;
  grad_scale_ = inputs.grad_scale;
  found_inf_ = inputs.found_inf;
  step_.write_grads = inputs.write_grads;
  if (!inputs.may_ask && (asks_for_grads_ || !reads_libtorch())) return false;
  if (!inputs.same_groups && !read_groups(inputs.groups, inputs.may_ask)) return false;
  read_grads(inputs.grads);
  return grads_.empty() || grads_.size() == parameters_.size();
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

std::vector<py::object> HostPlan::scalar_objects() const {
  std::vector<py::object> objects = lr_tensors_;
  objects.insert(objects.end(), {t_, lr_, given_, grad_scale_, found_inf_});
  objects.insert(objects.end(), norm_tensors_.begin(), norm_tensors_.end());
  return objects;
}

void HostPlan::release() {
  // What goes may run Python code, which must find the plan in order.
  const std::vector<py::object> grads = std::move(grads_);
  grads_.clear();
  std::fill(lr_tensors_.begin(), lr_tensors_.end(), py::object());
  grad_scale_ = found_inf_ = py::object();
  is_measured_ = false;
}

bool HostPlan::prepare(const StepInputs& inputs) { return read(inputs) && look(); }

void HostPlan::look_again() {
  if (look()) return;
  throw std::runtime_error(
      "a parameter, its gradient or its state changed while the step was being made: do not "
      "change them from hooks, other threads or __del__ during step()");
}

bool HostPlan::launch(bool advance) {
  look_again();
  const bool skipped = skips();
  if (!skipped) {
    bump_versions();
    stage();
    launch_kernel(advance);
  }
  release();
  return !skipped;
}

void HostPlan::measure() {
  look_again();
  if (!skips()) {
    stage();
    launch_norms();
  }
  is_measured_ = true;
}

py::object HostPlan::active() {
  if (listed_ != generation_) {
    listed_ = generation_;
    py::list active;
    for (const Parameter& parameter : parameters_) {
      if (parameter.active) active.append(parameter.tensor);
    }
    active_ = active;
  }
  return active_;
}

}  // namespace fused_warmup
