#include "host/host_step.h"

#include <algorithm>
#include <stdexcept>
#include <thread>

namespace fused_warmup {

namespace {

PyObject* name(const char* text) { return PyUnicode_InternFromString(text); }

// An attribute, or a null if there is none.
py::object get(const py::object& attributes, PyObject* key) {
  return py::reinterpret_borrow<py::object>(PyDict_GetItem(attributes.ptr(), key));
}

bool is_none(const py::object& object) { return !object || object.is_none(); }

bool is_empty_dict(const py::object& object) {
  return object && PyDict_Check(object.ptr()) && PyDict_GET_SIZE(object.ptr()) == 0;
}

// A module's attributes, kept for good.
const py::object* attributes_of(const char* module) {
  return new py::object(py::module_::import(module).attr("__dict__"));
}

bool has_hooks(const py::object& attributes) {
  static PyObject* const before = name("_optimizer_step_pre_hooks");
  static PyObject* const after = name("_optimizer_step_post_hooks");
  static PyObject* const before_all = name("_global_optimizer_pre_hooks");
  static PyObject* const after_all = name("_global_optimizer_post_hooks");
  static const py::object& global = *attributes_of("torch.optim.optimizer");
  return !is_empty_dict(get(attributes, before)) || !is_empty_dict(get(attributes, after)) ||
         !is_empty_dict(get(global, before_all)) || !is_empty_dict(get(global, after_all));
}

// Whether torch's operations would move tangents, too.
bool has_tangents() {
  static PyObject* const level_name = name("_current_level");
  static const py::object& forward_ad = *attributes_of("torch.autograd.forward_ad");
  const py::object level = get(forward_ad, level_name);
  return !level || !PyLong_CheckExact(level.ptr()) || PyLong_AsLong(level.ptr()) >= 0;
}

// Whether the first group's rate is the one that fused_warmup/_optim/two_rates.py looked at last.
bool is_rate_seen(const py::object& attributes, const py::object& groups) {
  static PyObject* const two_rates_name = name("_two_rates");
  static PyObject* const seen_name = name("seen");
  static PyObject* const lr_name = name("lr");
  const py::object two_rates = get(attributes, two_rates_name);
  if (!two_rates || PyList_GET_SIZE(groups.ptr()) == 0) return false;
  const auto first = py::reinterpret_borrow<py::object>(PyList_GET_ITEM(groups.ptr(), 0));
  // Not by its dict: Python 3.11 makes one then, and is not safe from code that runs meanwhile.
  const auto seen = py::reinterpret_steal<py::object>(PyObject_GetAttr(two_rates.ptr(), seen_name));
  if (!seen) PyErr_Clear();
  return seen && PyDict_Check(first.ptr()) && get(first, lr_name).is(seen);
}

// Whether the step itself is all that there is to do.
bool is_step_alone(const py::object& attributes) {
  static PyObject* const in_backward = name("_in_backward");
  static PyObject* const clip = name("_clip");
  static PyObject* const is_updating = name("_is_updating");
  return is_none(get(attributes, in_backward)) && is_none(get(attributes, clip)) &&
         get(attributes, is_updating).ptr() == Py_False && !has_hooks(attributes) &&
         !may_be_profiled() && !has_tangents();
}

}  // namespace

HostStep::HostStep(const py::object& watch, const py::list& frozen, const py::list& plans,
                   bool counts)
    : watch_object_(watch), watch_(&watch.cast<const Watch&>()), counts_(counts) {
  for (const py::handle each : frozen) {
    frozen_.push_back({py::reinterpret_borrow<py::object>(each), TensorLook(each.ptr())});
  }
  for (const py::handle each : plans) {
    plan_objects_.push_back(py::reinterpret_borrow<py::object>(each));
    plans_.push_back(&each.cast<HostPlan&>());  // by reference: None is none
  }
  // What looks found is launched before Python code runs. No device has plans of both kinds, so
  // that each device's plans stay in order.
  std::stable_partition(plans_.begin(), plans_.end(),
                        [](const HostPlan* plan) { return !plan->runs_python(); });
  for (size_t i = 0; i < plans_.size(); ++i) {
    bool last = true;
    for (size_t j = i + 1; j < plans_.size(); ++j) {
      last = last && !same_device(plans_[i]->device(), plans_[j]->device());
    }
    advances_.push_back(last);
  }
}

bool HostStep::run_alone(PyObject* optimizer) {
  static PyObject* const state_name = name("state");
  static PyObject* const groups_name = name("param_groups");
  static PyObject* const grad_scale_name = name("grad_scale");
  static PyObject* const found_inf_name = name("found_inf");
  static PyObject* const write_grads_name = name("write_grads");

  if (running_) return false;
  // There is such a dict already: the step that made the plans has asked for it.
  const auto attributes =
      py::reinterpret_steal<py::object>(PyObject_GenericGetDict(optimizer, nullptr));
  if (!attributes) throw py::error_already_set();
  if (!is_step_alone(attributes)) return false;
  const py::object state = get(attributes, state_name), groups = get(attributes, groups_name);
  const py::object grad_scale = get(attributes, grad_scale_name);
  const py::object found_inf = get(attributes, found_inf_name);
  const py::object write_grads = get(attributes, write_grads_name);
  if (!state || !PyDict_Check(state.ptr()) || !groups || !PyList_Check(groups.ptr()) ||
      !(is_none(grad_scale) || is_tensor(grad_scale.ptr())) ||
      !(is_none(found_inf) || is_tensor(found_inf.ptr())) || !write_grads ||
      !is_rate_seen(attributes, groups)) {
    return false;
  }
  StepInputs inputs{py::reinterpret_borrow<py::list>(groups), py::none(), grad_scale, found_inf};
  inputs.write_grads = write_grads.ptr() == Py_True;
  inputs.may_ask = false;
  return make(py::reinterpret_borrow<py::dict>(state), inputs);
}

bool HostStep::run(const py::dict& state, const py::list& groups, const py::object& grad_scale,
                   const py::object& found_inf, bool write_grads) {
  return make(state, {groups, py::none(), grad_scale, found_inf, write_grads});
}

bool HostStep::make(const py::dict& state, const StepInputs& inputs) {
  // A step of another thread may be waiting for its device, without Python's lock.
  while (running_ && runner_ != std::this_thread::get_id()) {
    const py::gil_scoped_release released;
    std::this_thread::yield();
  }
  if (running_) {
    throw std::runtime_error(
        "step() was called from inside the same optimizer's step(): take the call out of the hook, "
        "property or __del__ that makes it");
  }
  struct Running {
    HostStep* step;
    explicit Running(HostStep* self) : step(self) {
      step->running_ = true;
      step->runner_ = std::this_thread::get_id();
    }
    ~Running() {
      step->running_ = false;
      for (HostPlan* plan : step->plans_) plan->release();
    }
  };
  const Running running(this);
  // Parameters of two plans may share a gradient, which would then be unscaled twice.
  if (plans_.size() > 1 && inputs.write_grads && !is_none(inputs.grad_scale)) return false;
  return read(inputs) && look(state, inputs.groups) && launch();
}

bool HostStep::read(const StepInputs& inputs) {
  for (HostPlan* plan : plans_) {
    if (!plan->read(inputs)) return false;
  }
  static PyObject* const grad_name = PyUnicode_InternFromString("grad");
  for (const Frozen& each : frozen_) {
    if (each.look && !each.look.grad()) continue;
    if (!inputs.may_ask) return false;
    const auto grad =
        py::reinterpret_steal<py::object>(PyObject_GetAttr(each.tensor.ptr(), grad_name));
    if (!grad) throw py::error_already_set();
    if (!grad.is_none()) return false;
  }
  return true;
}

// From here to the end of launch() no Python code runs, but that of launches by Python.
bool HostStep::look(const py::dict& state, const py::list& groups) const {
  if (!watch_->unchanged(state, groups)) return false;
  for (HostPlan* plan : plans_) {
    if (!plan->look()) return false;
  }
  // Plans are launched in an order that was made for other gradients.
  for (const HostPlan* plan : plans_) {
    for (const HostPlan* other : plans_) {
      if (plan != other && plan->reads_from(*other)) return false;
    }
  }
  return true;
}

bool HostStep::launch() {
  // A step without any gradient is no step; one that has some counts on every device.
  bool any = false;
  for (const HostPlan* plan : plans_) any = any || plan->has_active();
  if (!any) return true;
  std::vector<bool> skipped;
  for (const HostPlan* plan : plans_) skipped.push_back(plan->skips());
  // Autograd may refuse, and a step is done whole or not at all: all of this before any launch.
  try {
    for (size_t i = 0; i < plans_.size(); ++i) {
      if (!skipped[i]) plans_[i]->bump_versions();
    }
  } catch (const std::exception&) {
    return false;  // Python has better words for it
  }
  for (size_t i = 0; i < plans_.size(); ++i) {
    if (!skipped[i]) plans_[i]->stage();
  }
  bool has_run_python = false;
  for (size_t i = 0; i < plans_.size(); ++i) {
    if (has_run_python) plans_[i]->look_again();
    if (!skipped[i]) plans_[i]->launch_kernel(counts_ && advances_[i]);
    has_run_python = has_run_python || plans_[i]->runs_python();
  }
  return true;
}

}  // namespace fused_warmup
