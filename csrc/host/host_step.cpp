#include "host/host_step.h"

#include <algorithm>
#include <stdexcept>
#include <thread>

namespace fused_warmup {

namespace {

bool is_none(const py::object& object) { return !object || object.is_none(); }

}  // namespace

HostStep::HostStep(const py::object& watch, const py::list& frozen, const py::list& plans,
                   bool counts)
    : watch_object_(watch), watch_(&watch.cast<Watch&>()), counts_(counts) {
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
  if (running_) return false;
  attributes_.prefetch();
  watch_->prefetch();
  if (!attributes_.is_step_alone(optimizer)) return false;
  const auto state = py::reinterpret_borrow<py::dict>(attributes_.state());
  const auto groups = py::reinterpret_borrow<py::list>(attributes_.groups());
  StepInputs inputs{groups, py::none(), attributes_.take_grad_scale(), attributes_.take_found_inf(),
                    attributes_.write_grads()};
  inputs.may_ask = false;
  inputs.groups_version = watch_->groups_version(groups.ptr());
  return attributes_.is_rate_seen(inputs.groups_version) && make(state, inputs);
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
  // A fine-tuned model's are many, and each would be waited for in turn.
  const auto ahead = [this](size_t i, auto ask) {
    if (torch_words.found && i < frozen_.size() && frozen_[i].look) ask(frozen_[i].look);
  };
  for (size_t i = 0; i < frozen_.size(); ++i) {
    const Frozen& each = frozen_[i];
    ahead(i + 8, [](const TensorLook& look) { look.prefetch(); });
    ahead(i + 4, [](const TensorLook& look) { look.prefetch_parts(); });
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
bool HostStep::look(const py::dict& state, const py::list& groups) {
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
