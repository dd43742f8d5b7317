// One optimizer's step, where native kernels make all of it: from the optimizer's state and groups
// to the launches, in one call.
#pragma once

#include <thread>

#include "host/attributes.h"
#include "host/host_plan.h"
#include "host/watch.h"

namespace fused_warmup {

class HostStep {
 public:
  // watch: what the plans were made from. frozen: parameters without state, which need other plans
  // once they have a gradient. plans: HostPlans, in the order of their launches. counts: whether a
  // step advances the count of steps.
  HostStep(const py::object& watch, const py::list& frozen, const py::list& plans, bool counts);

  // Does the step, or skips it as found_inf says. False: something is not as it was when the plans
  // were made, or not for this path; nothing has been touched.
  bool run(const py::dict& state, const py::list& groups, const py::object& grad_scale,
           const py::object& found_inf, bool write_grads);

  // The step of an optimizer in one call that runs no Python code, so that no thread and no hook
  // can come between. False, where anything else than the step is to be done, or told by Python:
  // hooks, a profiler's label, clipping, updates that were made in backward. Nothing has been
  // touched then.
  bool run_alone(PyObject* optimizer);

  template <typename Visit>
  void for_each_object(Visit visit) {
    for (Frozen& each : frozen_) visit(each.tensor);
    for (py::object& each : plan_objects_) visit(each);
    visit(watch_object_);
  }

 private:
  struct Frozen {
    py::object tensor;
    TensorLook look;
  };

  bool make(const py::dict& state, const StepInputs& inputs);
  bool read(const StepInputs& inputs);
  bool look(const py::dict& state, const py::list& groups);
  bool launch();

  py::object watch_object_;
  Watch* watch_;
  Attributes attributes_;
  std::vector<Frozen> frozen_;
  std::vector<py::object> plan_objects_;
  std::vector<HostPlan*> plans_;
  std::vector<bool> advances_;  // whether a plan is the last of its device, and advances its count
  bool counts_;
  bool running_ = false;
  std::thread::id runner_;
};

}  // namespace fused_warmup
