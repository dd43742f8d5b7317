#include "host/attributes.h"

#include "host/tensor.h"
#include "host/torch_abi.h"

namespace fused_warmup {
namespace {

PyObject* name(const char* text) { return PyUnicode_InternFromString(text); }

// A borrowed attribute, or a null if there is none.
PyObject* get(PyObject* attributes, PyObject* key) { return PyDict_GetItem(attributes, key); }

bool is_none(PyObject* object) { return object == nullptr || object == Py_None; }

bool is_empty_dict(PyObject* object) {
  return object != nullptr && PyDict_Check(object) && PyDict_GET_SIZE(object) == 0;
}

PyObject* grad_scale_name() {
  static PyObject* const key = name("grad_scale");
  return key;
}

PyObject* found_inf_name() {
  static PyObject* const key = name("found_inf");
  return key;
}

// A module's attributes, kept for good.
PyObject* attributes_of(const char* module) {
  return py::object(py::module_::import(module).attr("__dict__")).release().ptr();
}

// What torch keeps for all optimizers.
class Settings {
 public:
  Settings()
      : optimizers_(attributes_of("torch.optim.optimizer")),
        forward_ad_(attributes_of("torch.autograd.forward_ad")) {}

  // Whether no optimizer's step has hooks, and torch's operations would move no tangents.
  bool are_quiet() {
    if (!watched_.unchanged()) look_up();
    return are_quiet_;
  }
  void prefetch() const { watched_.prefetch(); }

 private:
  void look_up() {
    static PyObject* const before_name = name("_global_optimizer_pre_hooks");
    static PyObject* const after_name = name("_global_optimizer_post_hooks");
    static PyObject* const level_name = name("_current_level");
    PyObject *before = get(optimizers_, before_name), *after = get(optimizers_, after_name);
    PyObject* level = get(forward_ad_, level_name);
    are_quiet_ = is_empty_dict(before) && is_empty_dict(after) && level != nullptr &&
                 PyLong_CheckExact(level) && PyLong_AsLong(level) < 0;
    watched_.watch({forward_ad_, optimizers_, before, after});
  }

  PyObject *optimizers_, *forward_ad_;
  WatchedDicts watched_;
  bool are_quiet_ = false;
};

Settings& settings() {
  static auto& of_torch = *new Settings;
  return of_torch;
}

}  // namespace

Attributes::Attributes() : lasting_({grad_scale_name(), found_inf_name()}) {}

void Attributes::find_settings() { settings(); }

void Attributes::prefetch() const {
  settings().prefetch();
  lasting_.prefetch();
}

bool Attributes::is_step_alone(PyObject* optimizer) {
  if (!settings().are_quiet() || may_be_profiled()) return false;
  // There is such a dict already: the step that made the plans has asked for it.
  const auto dict = py::reinterpret_steal<py::object>(PyObject_GenericGetDict(optimizer, nullptr));
  if (!dict) throw py::error_already_set();
  const bool are_known = dict.ptr() == dict_ && lasting_.unchanged();
  if (!are_known) {
    dict_ = nullptr;
    seen_at_ = 0;
    if (!look_up(dict.ptr())) return false;
    dict_ = dict.ptr();
  }
  return (are_known && !has_scalars_ && all_.unchanged()) || look_up_scalars(dict.ptr());
}

bool Attributes::look_up(PyObject* dict) {
  static PyObject* const state_name = name("state");
  static PyObject* const groups_name = name("param_groups");
  static PyObject* const write_grads_name = name("write_grads");
  static PyObject* const in_backward_name = name("_in_backward");
  static PyObject* const clip_name = name("_clip");
  static PyObject* const is_updating_name = name("_is_updating");
  static PyObject* const before_name = name("_optimizer_step_pre_hooks");
  static PyObject* const after_name = name("_optimizer_step_post_hooks");
  static PyObject* const two_rates_name = name("_two_rates");

  PyObject *before = get(dict, before_name), *after = get(dict, after_name);
  lasting_.watch({dict, before, after});
  PyObject* write_grads = get(dict, write_grads_name);
  write_grads_ = write_grads == Py_True;
  state_ = get(dict, state_name);
  groups_ = get(dict, groups_name);
  two_rates_ = get(dict, two_rates_name);
  return is_empty_dict(before) && is_empty_dict(after) && is_none(get(dict, in_backward_name)) &&
         is_none(get(dict, clip_name)) && get(dict, is_updating_name) == Py_False &&
         write_grads != nullptr && two_rates_ != nullptr && state_ != nullptr &&
         PyDict_Check(state_) && groups_ != nullptr && PyList_Check(groups_);
}

bool Attributes::look_up_scalars(PyObject* dict) {
  all_.watch({dict});
  grad_scale_ = py::reinterpret_borrow<py::object>(get(dict, grad_scale_name()));
  found_inf_ = py::reinterpret_borrow<py::object>(get(dict, found_inf_name()));
  const auto is_good = [](const py::object& each) {
    return is_none(each.ptr()) || is_tensor(each.ptr());
  };
  has_scalars_ = !is_none(grad_scale_.ptr()) || !is_none(found_inf_.ptr());
  if (is_good(grad_scale_) && is_good(found_inf_)) return true;
  grad_scale_ = found_inf_ = py::object();
  return false;
}

bool Attributes::is_rate_seen(uint64_t groups_version) {
  if (groups_version != 0 && groups_version == seen_at_) return true;
  static PyObject* const seen_name = name("seen");
  static PyObject* const lr_name = name("lr");
  if (PyList_GET_SIZE(groups_) == 0) return false;
  const auto first = py::reinterpret_borrow<py::object>(PyList_GET_ITEM(groups_, 0));
  // Not by its dict: Python 3.11 makes one then, and is not safe from code that runs meanwhile.
  const auto seen = py::reinterpret_steal<py::object>(PyObject_GetAttr(two_rates_, seen_name));
  if (!seen) PyErr_Clear();
  if (!seen || !PyDict_Check(first.ptr()) || get(first.ptr(), lr_name) != seen.ptr()) return false;
  seen_at_ = groups_version;
  return true;
}

}  // namespace fused_warmup
