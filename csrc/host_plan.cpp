#include "host_plan.h"

#include <cmath>
#include <cstring>
#include <utility>

namespace fused_warmup {
namespace {

// From this many tensors on, torch's own structures about them outgrow the caches between two
// steps: a look at each then waits for memory, unless it is asked for some tensors ahead.
constexpr size_t MANY = 1000;
constexpr size_t AHEAD = 8;

// Interned once: a dict look-up then compares pointers.
PyObject* name(const char* text) { return PyUnicode_InternFromString(text); }

// A plain Python number; tensors and other things with __float__ are not for this path.
bool read_number(PyObject* dict, PyObject* key, double* out) {
  PyObject* value = PyDict_GetItem(dict, key);
  if (value == nullptr) return false;
  if (PyFloat_Check(value)) {
    *out = PyFloat_AS_DOUBLE(value);
    return true;
  }
  if (!PyLong_Check(value)) return false;
  *out = PyLong_AsDouble(value);
  if (*out == -1.0 && PyErr_Occurred()) {
    PyErr_Clear();
    return false;
  }
  return true;
}

bool read_flag(PyObject* dict, PyObject* key, int32_t* out) {
  PyObject* value = PyDict_GetItem(dict, key);
  if (value != Py_True && value != Py_False) return false;
  *out = value == Py_True;
  return true;
}

DLTensor view_or_throw(const py::object& tensor) {
  DLTensor view;
  if (!view_tensor(tensor.ptr(), &view)) {
    throw py::type_error("not a dense tensor: " + std::string(py::repr(tensor)));
  }
  return view;
}

}  // namespace

std::vector<Segment> unpack_segments(const std::string& bytes) {
  std::vector<Segment> segments(bytes.size() / sizeof(Segment));
  if (!segments.empty()) std::memcpy(segments.data(), bytes.data(), bytes.size());
  return segments;
}

HostPlan::HostPlan(const py::list& params, const py::list& momentum_buffers,
                   const py::list& first_steps, const std::vector<int32_t>& group_of,
                   const py::list& schedules, const std::vector<int32_t>& schedule_of,
                   const std::vector<int32_t>& momentum_schedule_of, const py::object& t,
                   const py::object& lr)
    : schedule_of_(schedule_of),
      momentum_schedule_of_(momentum_schedule_of),
      t_(t),
      lr_(lr),
      first_steps_(first_steps),
      active_(py::list()) {
  device_ = view_or_throw(t).device;
  const bool many = params.size() >= MANY;
  const py::object grad = py::module_::import("torch").attr("Tensor").attr("grad");
  for (size_t i = 0; i < params.size(); ++i) {
    const bool own_grad = py::getattr(py::type::of(params[i]), "grad").is(grad);
    DLTensor view = view_or_throw(params[i]);
    const std::optional<DType> dtype = dtype_of(view);
    if (!dtype) throw py::type_error("no native kernel for " + std::string(py::repr(params[i])));
    layouts_.push_back(view);
    TensorEntry entry{};
    entry.param = data_of(view);
    TensorLook look(params[i].ptr(), entry.param), momentum_look;
    if (many) look.find_prefetch_address(params[i].ptr());
    entry.param_dtype = *dtype;
    entry.n_elements = n_elements_of(view);
    entry.group = group_of[i];
    if (!momentum_buffers[i].is_none()) {
      view = view_or_throw(momentum_buffers[i]);
      if (!layouts_.match(i, view) || dtype_of(view) != dtype) {
        throw py::type_error("momentum_buffer and parameter differ in dtype, shape or strides");
      }
      entry.momentum_buffer = data_of(view);
      momentum_look = TensorLook(momentum_buffers[i].ptr(), entry.momentum_buffer);
      if (many) momentum_look.find_prefetch_address(momentum_buffers[i].ptr());
    }
    if (!first_steps[i].is_none()) {
      entry.first_step = static_cast<int64_t*>(data_of(view_or_throw(first_steps[i])));
    }
    parameters_.push_back(
        {params[i], momentum_buffers[i], look, momentum_look, {}, entry, false, own_grad});
  }
  for (const py::handle packed : schedules) {
    const py::tuple pair = packed.cast<py::tuple>();
    segments_.push_back(unpack_segments(pair[0].cast<py::bytes>()));
    values_.push_back(pair[1].cast<std::vector<double>>());
  }
  for (size_t i = 0; i < segments_.size(); ++i) {
    schedules_.push_back({segments_[i].data(), static_cast<int64_t>(segments_[i].size()),
                          values_[i].data(), static_cast<int64_t>(values_[i].size())});
  }
  groups_.resize(schedule_of_.size());
}

bool HostPlan::in_range(const Group& group) const {
  const auto good = [](double value) { return std::isfinite(value) && value >= 0; };
  // A rate on a GPU is not read here: that would wait for the device.
  const bool readable = group.lr_ptr == nullptr || device_.device_type == kDLCPU;
  return (!readable || good(base_lr(group))) && good(group.weight_decay) && good(group.momentum) &&
         std::isfinite(group.dampening) &&
         (group.nesterov == 0 || (group.momentum > 0 && group.dampening == 0));
}

// A tensor of one element on the plan's device.
bool HostPlan::view_scalar(PyObject* tensor, DLTensor* view) const {
  return view_tensor(tensor, view) && same_device(view->device, device_) &&
         n_elements_of(*view) == 1;
}

bool HostPlan::read_groups(const py::list& groups) {
  static PyObject* const lr = name("lr");
  static PyObject* const weight_decay = name("weight_decay");
  static PyObject* const momentum = name("momentum");
  static PyObject* const dampening = name("dampening");
  static PyObject* const nesterov = name("nesterov");
  static PyObject* const maximize = name("maximize");

  if (groups.size() != groups_.size()) return false;
  for (size_t i = 0; i < groups_.size(); ++i) {
    PyObject* dict = PyList_GET_ITEM(groups.ptr(), static_cast<Py_ssize_t>(i));
    Group& group = groups_[i];
    group.schedule = schedule_of_[i];
    group.momentum_schedule = momentum_schedule_of_[i];
    group.lr_ptr = nullptr;
    group.lr_dtype = DType::FLOAT64;
    if (!read_number(dict, lr, &group.lr)) {
      PyObject* tensor = PyDict_GetItem(dict, lr);
      DLTensor view;
      if (tensor == nullptr || !view_scalar(tensor, &view)) return false;
      const std::optional<DType> dtype = dtype_of(view);
      if (dtype != DType::FLOAT32 && dtype != DType::FLOAT64) return false;
      group.lr_ptr = data_of(view);
      group.lr_dtype = *dtype;
    }
    if (!read_number(dict, weight_decay, &group.weight_decay) ||
        !read_number(dict, momentum, &group.momentum) ||
        !read_number(dict, dampening, &group.dampening) ||
        !read_flag(dict, nesterov, &group.nesterov) ||
        !read_flag(dict, maximize, &group.maximize) || !in_range(group)) {
      return false;
    }
  }
  return true;
}

bool HostPlan::read_scalars(const py::object& grad_scale, const py::object& found_inf) {
  const auto read = [this](const py::object& tensor, const float** out) {
    *out = nullptr;
    if (tensor.is_none()) return true;
    DLTensor view;
    if (!view_scalar(tensor.ptr(), &view) || dtype_of(view) != DType::FLOAT32) return false;
    *out = static_cast<const float*>(data_of(view));
    return true;
  };
  DLTensor view;
  if (!view_tensor(t_.ptr(), &view)) return false;
  step_.t = static_cast<int64_t*>(data_of(view));
  if (!view_tensor(lr_.ptr(), &view)) return false;
  step_.lr = static_cast<double*>(data_of(view));
  return read(grad_scale, &step_.grad_scale) && read(found_inf, &step_.found_inf);
}

// The gradient of parameter i: that of the list, if there is one, or its own. UNKNOWN: one that no
// native kernel can use.
TensorLook::Grad HostPlan::find_grad(size_t i, const py::object& grads, DLTensor* view) {
  static PyObject* const grad_name = name("grad");
  Parameter& parameter = parameters_[i];
  if (grads.is_none() && parameter.own_grad) {
    const TensorLook::Grad seen = parameter.tensor_look.view_grad(view);
    view->device = device_;
    if (seen != TensorLook::Grad::UNKNOWN) return seen;
  }
  const auto grad =
      grads.is_none()
          ? py::reinterpret_steal<py::object>(PyObject_GetAttr(parameter.tensor.ptr(), grad_name))
          : py::reinterpret_borrow<py::object>(
                PyList_GET_ITEM(grads.ptr(), static_cast<Py_ssize_t>(i)));
  if (!grad) throw py::error_already_set();
  if (grad.is_none()) return TensorLook::Grad::NONE;
  if (!view_tensor(grad.ptr(), view)) return TensorLook::Grad::UNKNOWN;
  if (parameters_.size() >= MANY && !parameter.active) {
    parameter.grad_look = TensorLook(grad.ptr(), data_of(*view));
    parameter.grad_look.find_prefetch_address(grad.ptr());
  }
  return TensorLook::Grad::VIEWED;
}

bool HostPlan::read_parameter(size_t i, const DLTensor& grad) {
  TensorEntry& entry = parameters_[i].entry;
  const Group& group = groups_[static_cast<size_t>(entry.group)];
  if (group.momentum != 0 && parameters_[i].momentum_buffer.is_none()) return false;
  if (group.momentum != 0 && group.dampening != 0 && entry.first_step == nullptr) return false;

  const std::optional<DType> grad_dtype = dtype_of(grad);
  if (!grad_dtype || !same_device(grad.device, device_) || !layouts_.match(i, grad)) return false;
  entry.grad = data_of(grad);
  entry.grad_dtype = *grad_dtype;

  // The parameter's memory may have been swapped since the last step (p.data = ...), and so may the
  // momentum's, of all parameters or of a few, as an offloader pleases. What replaces the tensor
  // itself changes the state, which Watch sees.
  const Parameter& parameter = parameters_[i];
  if (!find(i, parameter.tensor.ptr(), parameter.tensor_look, &entry.param)) return false;
  if (group.momentum == 0) return true;
  void* buffer = entry.momentum_buffer;
  return find(i, parameter.momentum_buffer.ptr(), parameter.momentum_look, &buffer) &&
         buffer == entry.momentum_buffer;
}

// Where the memory of parameter i, or of its momentum, is now; `data` says where it was. False if
// the tensor is not of the plan's kind any more.
bool HostPlan::find(size_t i, PyObject* tensor, const TensorLook& look, void** data) const {
  if (look && look.is_at(*data, layouts_.of(i), layouts_.n_dims(i))) return true;
  DLTensor view;
  if (!view_tensor(tensor, &view) || !same_device(view.device, device_) ||
      !layouts_.match(i, view) || dtype_of(view) != parameters_[i].entry.param_dtype) {
    return false;
  }
  *data = data_of(view);
  return true;
}

void HostPlan::list_active() {
  ++generation_;
  py::list active;
  for (const Parameter& parameter : parameters_) {
    if (parameter.active) active.append(parameter.tensor);
  }
  active_ = active;
}

bool HostPlan::prepare(const py::list& groups, const py::object& grads,
                       const py::object& grad_scale, const py::object& found_inf,
                       bool write_grads) {
  if (!read_groups(groups) || !read_scalars(grad_scale, found_inf)) return false;
  step_.write_grads = write_grads;

  entries_.clear();
  bool same_active = !std::exchange(dirty_, true);  // until this pass is through
  const bool many = parameters_.size() >= MANY;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (many && i + AHEAD < parameters_.size()) parameters_[i + AHEAD].prefetch();
    Parameter& parameter = parameters_[i];
    DLTensor grad;
    const TensorLook::Grad seen = find_grad(i, grads, &grad);
    if (seen == TensorLook::Grad::UNKNOWN) return false;
    const bool active = seen == TensorLook::Grad::VIEWED;
    if (active && !read_parameter(i, grad)) return false;
    same_active = same_active && active == parameter.active;
    parameter.active = active;
    if (!active) continue;
    // A mark is kept without dampening, too: there may be some again.
    if (parameter.entry.n_elements > 0) entries_.push_back(parameter.entry);
  }
  dirty_ = false;
  if (!same_active) list_active();
  return true;
}

bool HostPlan::bump_versions(bool grads) const {
  for (const Parameter& parameter : parameters_) {
    if (!parameter.tensor_look.can_bump()) return false;
  }
  for (const Parameter& parameter : parameters_) {
    if (!parameter.active) continue;
    parameter.tensor_look.bump_version();
    if (grads) parameter.tensor_look.bump_grad_version();
  }
  return true;
}

}  // namespace fused_warmup
