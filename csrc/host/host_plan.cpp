#include "host/host_plan.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "host/packed.h"

namespace fused_warmup {
namespace {

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

}  // namespace

HostPlan::HostPlan(const py::list& params, const py::list& momentum_buffers,
                   const py::list& first_steps, const std::vector<int32_t>& group_of,
                   const py::list& schedules, const std::vector<int32_t>& schedule_of,
                   const std::vector<int32_t>& momentum_schedule_of, const py::object& t,
                   const py::object& lr, const py::list& emas, const py::list& masters,
                   const std::vector<int32_t>& ema_schedule_of, const py::object& norms)
    : forms_(16 * (params.size() + 1)),  // a few for each, however often one has another
      averages_(schedule_of.size()),
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
  parameter.first_step = first_step;
  parameters_.push_back(std::move(parameter));
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
  if (options_version_ == 0) std::fill(lr_tensors_.begin(), lr_tensors_.end(), py::object());
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
