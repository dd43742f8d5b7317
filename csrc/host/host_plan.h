// What the host knows of one device's step: which tensors a launch touches and where they lie.
//
// Built once by Python (fused_warmup/_step/plan.py). Each step has two phases. read() asks Python
// for what only Python can tell; Python code may run meanwhile (a property, a number's __float__,
// the garbage collector) and may change anything. look() then finds, in one pass without Python,
// where everything lies now, and the kernel is launched before Python runs again: Python's lock is
// held until the launch has returned. So nothing that a look found can be gone when the kernel uses
// it. Triton's launch is Python code itself; its plan holds on to the gradients meanwhile.
//
// Whatever it does not understand it leaves to Python by returning false: nothing has been touched
// then, and Python finds a slower way or the right words for an error.
#pragma once

#include <string>

#include "host/spans.h"
#include "host/tensor.h"
#include "launch/norms.h"

namespace fused_warmup {

// What one step is given, beside the tensors of the plan.
struct StepInputs {
  py::list groups;
  py::object grads;  // None takes each parameter's own .grad; a list gives them, None in it: none
  py::object grad_scale, found_inf;  // GradScaler's scalars or None
  bool write_grads = false;          // leave unscaled gradients behind
  bool may_ask = true;               // run Python code where only that can tell
  bool same_groups = false;          // take the groups' options as the last step read them
  uint64_t groups_version = 0;       // of Watch: equal to the last step's where they hold the same
};

class HostPlan {
 public:
  // params, momentum_buffers, first_steps, emas, masters (each a tensor or None), group_of: one
  // entry a parameter; emas and masters may be empty: nobody has one. schedules: (segments, values)
  // as Schedule.pack() gives them; schedule_of (of the rate), momentum_schedule_of and
  // ema_schedule_of: one index a group, -1 for none. t: int64 scalar; lr: float64, one element a
  // group. norms: of LARS, see Norms in fused_warmup/_step/norms.py; None in SGD.
  HostPlan(const py::list& params, const py::list& momentum_buffers, const py::list& first_steps,
           const std::vector<int32_t>& group_of, const py::list& schedules,
           const std::vector<int32_t>& schedule_of,
           const std::vector<int32_t>& momentum_schedule_of, const py::object& t,
           const py::object& lr, const py::list& emas, const py::list& masters,
           const std::vector<int32_t>& ema_schedule_of, const py::object& norms);
  virtual ~HostPlan() = default;

  // The parts of a step, in this order; host_step.cpp calls them for all plans of an optimizer.
  virtual bool read(const StepInputs& inputs);
  bool look();
  // As Python code has run since the last look. Throws where something changed meanwhile.
  void look_again();
  // Has each launch leave the rates in another tensor too, float32 or float64, one element a group.
  void give_rates_to(const py::object& given) { given_ = given; }
  bool has_active() const { return n_active_ > 0; }
  // Whether a gradient of this plan lies in memory that `other` writes to.
  bool reads_from(const HostPlan& other) const;
  // Whether found_inf is known, on the host, to skip the step.
  virtual bool skips() const { return false; }
  // Tells autograd that the launch writes to the active parameters, and to their gradients.
  void bump_versions();
  // What a launch needs on its device and may fail for; comes before the first launch of any plan.
  virtual void stage() {}
  // The first of LARS's two launches, which launch_kernel() makes itself unless measure() did.
  virtual void launch_norms() = 0;
  virtual void launch_kernel(bool advance) = 0;
  // Whether launch_kernel() runs Python code, after which others must look again.
  virtual bool runs_python() const { return false; }
  // Lets go of what the step was given.
  void release();

  // The same step by two calls, for plans that Python launches among others: launch() looks again,
  // as Python code has run since. False where found_inf is known to have skipped the step.
  bool prepare(const StepInputs& inputs);
  bool launch(bool advance);
  // Between the two, and before launch() of any plan: leaves LARS's sums of squares in `norms`, to
  // which other ranks may add theirs.
  void measure();

  // Parameters that the step updates, a list.
  py::object active();

  const DLDevice& device() const { return device_; }

  template <typename Visit>
  void for_each_object(Visit visit) {
    for (Parameter& parameter : parameters_) {
      visit(parameter.tensor);
      visit(parameter.momentum_buffer);
      visit(parameter.first_step);
    }
    for (Extra& extra : extra_tensors_) {
      visit(extra.ema);
      visit(extra.master);
    }
    for (py::object& each : lr_tensors_) visit(each);
    for (py::object& each : grads_) visit(each);
    for (py::object& each : norm_tensors_) visit(each);
    for (py::object* each : {&t_, &lr_, &given_, &grad_scale_, &found_inf_, &active_}) visit(*each);
  }

 protected:
  size_t n_parameters() const { return parameters_.size(); }
  // The tensors behind groups_ and step_.
  std::vector<py::object> scalar_objects() const;
  bool is_lars() const { return !norm_tensors_.empty(); }
  bool is_measured() const { return is_measured_; }

  // Has read() hold the gradients until release(), for kernels that Python launches.
  void ask_for_grads() { asks_for_grads_ = true; }

  // Reads the groups' options; those that are tensors are looked at by look_at_rates().
  bool read_groups(const py::list& groups, bool may_ask = true);
  bool look_at_rates();

  std::vector<TensorEntry> entries_;  // of active parameters, empty tensors left out
  std::vector<Extras> extras_;        // as many; none where no parameter of the plan has any
  std::vector<Group> groups_;
  std::vector<Schedule> schedules_;
  StepScalars step_{};
  Norms norms_{};            // of LARS
  uint64_t generation_ = 0;  // changes with the set of active parameters
  DLDevice device_{};

 private:
  struct Parameter {
    py::object tensor, momentum_buffer, first_step;
    TensorLook tensor_look, momentum_look;
    TensorLook grad_look;  // of the last step, whose gradient may be gone
    Place place, momentum_place, grad_place;
    TensorEntry entry;
    PyTypeObject* type;
    size_t gap;     // of the gradient, in written_
    int32_t extra;  // in extra_tensors_; -1: none
    bool active;
    bool own_grad;  // .grad is torch's own attribute, not a subclass's
  };

  // What a parameter may have beside what all have.
  struct Extra {
    py::object ema, master;
    TensorLook ema_look, master_look;
    Place ema_place, master_place;
    int64_t version = 0;  // of a parameter with a master, when the master was last its own
    Extras entry{};
  };

  void add_parameter(const py::object& tensor, const py::object& momentum_buffer,
                     const py::object& first_step, int32_t group, const py::object& torch_grad,
                     const py::object& ema, const py::object& master);
  // Whether a step reads more than a core's own caches hold until it ends.
  bool has_many() const { return parameters_.size() > 512; }
  void prefetch(int64_t i);
  void prefetch_versions(size_t i) const;
  bool has_group(size_t group) const;
  bool in_range(const Group& group) const;
  bool view_scalar(PyObject* tensor, DLTensor* view) const;
  template <typename Fits>
  bool find_own(const py::object& tensor, Place* place, Fits fits);
  bool look_at_scalars();
  bool view_row(const py::object& tensor, DLTensor* view) const;
  bool look_at_norms();
  bool read_lars(PyObject* group, bool may_ask, Group* out) const;
  void read_grads(const py::object& grads);
  bool find(size_t i, const TensorLook& look, PyObject* object, Place* place);
  bool find_anew(size_t i, const TensorLook& look, PyObject* object, Place* place);
  void follow(void** at, void* found);
  bool look_at_parameters(bool* same_active);
  bool look_at_parameter(size_t i);
  bool look_at_grad(size_t i, const TensorLook& grad, PyObject* object);
  bool look_at_mark(size_t i);
  bool look_at_extras(size_t i, const Place** place);
  void list_entries();
  bool read_averaging(PyObject* dict, bool may_ask, Group* group) const;
  bool find_apart();
  bool is_apart(Parameter& parameter) const;
  bool grads_overlap() const;

  std::vector<Parameter> parameters_;
  Layouts layouts_;
  Forms forms_;
  std::vector<Extra> extra_tensors_;
  std::vector<bool> averages_;  // whether a group has averages
  std::vector<int32_t> schedule_of_, momentum_schedule_of_, ema_schedule_of_;
  std::vector<std::vector<Segment>> segments_;
  std::vector<std::vector<double>> values_;
  py::object t_, lr_, given_, active_;
  Place t_place_, lr_place_;
  std::vector<py::object> norm_tensors_;  // squares, partials, tickets; none in SGD
  bool is_measured_ = false;              // by measure(), for the launch that comes

  // What read() was given, held until release().
  std::vector<py::object> lr_tensors_;  // one a group; null where lr is a number
  std::vector<py::object> grads_;       // one a parameter, or none at all: each has its own
  py::object grad_scale_, found_inf_;
  // Of the groups whose options groups_ has, 0 where they have to be read anew. Their lr_tensors_
  // are held until then.
  uint64_t options_version_ = 0;

  size_t n_active_ = 0;
  bool asks_for_grads_ = false;  // some gradients only Python can tell
  Spans written_;                // memory of the active parameters and their momenta
  // No two of these share memory, where they were last, and no gradient lies in it.
  bool apart_ = false;
  bool are_entries_good_ = false;   // entries_ and extras_ say what the parameters' own entries do
  uint64_t listed_ = ~uint64_t{0};  // generation that active_ was made for
};

}  // namespace fused_warmup
