#include "watch.h"

namespace fused_warmup {
namespace {

PyObject* const* watched_names() {
  static PyObject* const names[] = {PyUnicode_InternFromString("step"),
                                    PyUnicode_InternFromString("momentum_buffer"),
                                    PyUnicode_InternFromString("first_step")};
  return names;
}

// Names are interned nearly always, so identity answers first.
bool is_watched(PyObject* key) {
  PyObject* const* names = watched_names();
  if (key == names[0] || key == names[1] || key == names[2]) return true;
  if (!PyUnicode_Check(key)) return false;
  for (int i = 0; i < 3; ++i) {
    if (PyUnicode_Compare(key, names[i]) == 0) return true;
  }
  return false;
}

// Calls see(object) for everything whose identity the plan relies on, in a fixed order, until it
// returns false. PyDict_Next hashes nothing: torch.Tensor.__hash__ is a Python function.
template <typename See>
bool visit(PyObject* state, PyObject* groups, See see) {
  static PyObject* const params_name = PyUnicode_InternFromString("params");
  static PyObject* const schedule_name = PyUnicode_InternFromString("schedule");
  static PyObject* const momentum_schedule_name = PyUnicode_InternFromString("momentum_schedule");

  PyObject *param, *entry;
  Py_ssize_t position = 0;
  while (PyDict_Next(state, &position, &param, &entry)) {
    if (!see(param) || !see(entry)) return false;
    if (!PyDict_Check(entry)) continue;
    PyObject *key, *value;
    Py_ssize_t inner = 0;
    while (PyDict_Next(entry, &inner, &key, &value)) {
      if (is_watched(key) && !see(value)) return false;
    }
  }
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(groups); ++i) {
    PyObject* group = PyList_GET_ITEM(groups, i);
    PyObject* params = PyDict_GetItem(group, params_name);
    if (!see(group) || !see(params) || !see(PyDict_GetItem(group, schedule_name)) ||
        !see(PyDict_GetItem(group, momentum_schedule_name))) {
      return false;
    }
    if (params == nullptr || !PyList_Check(params)) continue;
    for (Py_ssize_t j = 0; j < PyList_GET_SIZE(params); ++j) {
      if (!see(PyList_GET_ITEM(params, j))) return false;
    }
  }
  return true;
}

}  // namespace

Watch::Watch(const py::dict& state, const py::list& groups) {
  visit(state.ptr(), groups.ptr(), [this](PyObject* object) {
    refs_.push_back(py::reinterpret_borrow<py::object>(object));
    return true;
  });
}

bool Watch::unchanged(const py::dict& state, const py::list& groups) const {
  size_t i = 0;
  const bool same = visit(state.ptr(), groups.ptr(), [this, &i](PyObject* object) {
    return i < refs_.size() && refs_[i++].ptr() == object;
  });
  return same && i == refs_.size();
}

}  // namespace fused_warmup
