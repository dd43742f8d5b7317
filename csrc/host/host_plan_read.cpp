// What a step is given: the groups' options, the scalars and the gradients.
#include <algorithm>
#include <cmath>
#include <utility>

#include "host/host_plan.h"
#include "host/options.h"

namespace fused_warmup {
namespace {

// Interned once: a dict look-up then compares pointers.
PyObject* name(const char* text) { return PyUnicode_InternFromString(text); }

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

// A subclass may be given another __getitem__ while the dicts stay as they are.
bool are_dicts_of_pythons_own(const py::list& groups) {
  return std::all_of(groups.begin(), groups.end(),
                     [](py::handle each) { return PyDict_CheckExact(each.ptr()); });
}

}  // namespace

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

bool HostPlan::read_groups(const py::list& groups, bool may_ask) {
  options_version_ = 0;
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
  const bool same_options = inputs.groups_version != 0 && inputs.groups_version == options_version_;
  if (!inputs.same_groups && !same_options) {
    if (!read_groups(inputs.groups, inputs.may_ask)) return false;
    // What is read without asking lies in the groups' dicts, and in objects that do not change.
    if (!inputs.may_ask && are_dicts_of_pythons_own(inputs.groups)) {
      options_version_ = inputs.groups_version;
    }
  }
  read_grads(inputs.grads);
  return grads_.empty() || grads_.size() == parameters_.size();
}

}  // namespace fused_warmup
