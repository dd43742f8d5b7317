// What the host knows of one device's step: which tensors a launch touches and where they lie.
//
// Built once by Python (fused_warmup/plan.py); each step, prepare() reads what may have changed,
// gradients, the parameters' own memory and hyper-parameters, in one pass. Whatever it does not
// understand it leaves to Python by returning false: nothing has been touched then, and Python
// finds a slower way or the right words for an error.
#pragma once

#include <string>

#include "tensor.h"
#include "torch_abi.h"

namespace fused_warmup {

// Segments as Schedule.pack() gives them.
std::vector<Segment> unpack_segments(const std::string& bytes);

class HostPlan {
 public:
  // params, momentum_buffers (tensor or None), first_steps (tensor or None), group_of: one entry a
  // parameter. schedules: (segments, values) as Schedule.pack() gives them; schedule_of (of the
  // rate) and momentum_schedule_of: one index a group, -1 for none. t: int64 scalar; lr: float64,
  // one element a group.
  HostPlan(const py::list& params, const py::list& momentum_buffers, const py::list& first_steps,
           const std::vector<int32_t>& group_of, const py::list& schedules,
           const std::vector<int32_t>& schedule_of,
           const std::vector<int32_t>& momentum_schedule_of, const py::object& t,
           const py::object& lr);
  virtual ~HostPlan() = default;

  // grads: None takes each parameter's own .grad; a list gives them (None in it: no gradient).
  bool prepare(const py::list& groups, const py::object& grads, const py::object& grad_scale,
               const py::object& found_inf, bool write_grads);

  // Tells autograd that the launch wrote to the active parameters, and to their gradients. False,
  // and nothing is done, where libtorch does not offer that: Python must.
  bool bump_versions(bool grads) const;

  // Parameters that the prepared launch updates.
  const py::object& active() const { return active_; }

  template <typename Visit>
  void for_each_object(Visit visit) {
    for (Parameter& parameter : parameters_) {
      visit(parameter.tensor);
      visit(parameter.momentum_buffer);
    }
    for (py::object* each : {&t_, &lr_, &first_steps_, &active_}) visit(*each);
  }

 protected:
  bool read_groups(const py::list& groups);

  std::vector<TensorEntry> entries_;  // of active parameters, empty tensors left out
  std::vector<Group> groups_;
  std::vector<Schedule> schedules_;
  StepScalars step_{};
  uint64_t generation_ = 0;  // changes with the set of active parameters
  DLDevice device_{};

 private:
  struct Parameter {
    py::object tensor, momentum_buffer;
    TensorLook tensor_look, momentum_look;
    TensorLook grad_look;  // of a gradient that may be gone: only to prefetch
    TensorEntry entry;     // what the last prepare() found; momentum and marks as they were built
    bool active;
    bool own_grad;  // .grad is torch's own attribute, not a subclass's

    // Always inlined: to gcc a function that only prefetches does nothing, and calls to it go.
    [[gnu::always_inline]] void prefetch() const {
      __builtin_prefetch(tensor.ptr());
      tensor_look.prefetch();
      momentum_look.prefetch();
      grad_look.prefetch();
    }
  };

  bool in_range(const Group& group) const;
  bool view_scalar(PyObject* tensor, DLTensor* view) const;
  bool read_scalars(const py::object& grad_scale, const py::object& found_inf);
  TensorLook::Grad find_grad(size_t i, const py::object& grads, DLTensor* view);
  bool read_parameter(size_t i, const DLTensor& grad);
  bool find(size_t i, PyObject* tensor, const TensorLook& look, void** data) const;
  void list_active();

  std::vector<Parameter> parameters_;
  Layouts layouts_;
  std::vector<int32_t> schedule_of_, momentum_schedule_of_;
  std::vector<std::vector<Segment>> segments_;
  std::vector<std::vector<double>> values_;
  py::object t_, lr_, first_steps_, active_;
  bool dirty_ = true;  // a pass broke off, so the active flags and the list of them may disagree
};

}  // namespace fused_warmup
