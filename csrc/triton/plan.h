// One device's step by Triton: HostPlan's tensors and their tables. Python does what only Triton
// and torch can: it moves a changed table to the device and launches the kernel
// (fused_warmup/_backend/triton/launcher.py).
#pragma once

#include "host/host_plan.h"
#include "triton/tables.h"

namespace fused_warmup {

class TritonPlan : public HostPlan {
 public:
  // launcher: called once a step, see launch(). max_shares: how many programs the device
  // holds at a time.
  template <typename... Args>
  TritonPlan(const py::object& launcher, int32_t max_shares, Args&&... args)
      : HostPlan(std::forward<Args>(args)...),
        launcher_(launcher),
        tables_(py::cast(std::make_shared<triton::Tables>())),
        max_shares_(max_shares) {
    // Python code runs between the look and the launch. Whatever it drops, gradients stay.
    ask_for_grads();
  }

  bool runs_python() const override { return true; }
  // Enqueue the step; whether found_inf skips it is known on the device.
  void launch_norms() override { launch(true, false, false); }
  void launch_kernel(bool advance) override { launch(is_lars() && !is_measured(), true, advance); }

  py::object launcher() const { return launcher_; }
  // Launches recorded in graphs so far.
  py::object n_captured() const { return launcher_.attr("n_captured"); }
  // Gives the groups' present options to these. False where they are not plain numbers or tensors
  // of this device.
  bool update_captured(const py::list& groups);

  template <typename Visit>
  void for_each_object(Visit visit) {
    HostPlan::for_each_object(visit);
    for (py::object* each : {&launcher_, &tables_}) visit(*each);
    visit(static_cast<py::object&>(held_by_graphs_));
  }

 private:
  void launch(bool measures, bool updates, bool advance);
  void hold_scalars();

  py::object launcher_;
  py::object tables_;        // triton::Tables, as Python is handed them
  py::list held_by_graphs_;  // a tensor lr, for one, that graphs read by its address
  int32_t max_shares_;
};

}  // namespace fused_warmup
