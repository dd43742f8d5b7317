#include "watch.h"

namespace fused_warmup {
namespace {

// Calls see(object) for everything whose identity the plan relies on, in a fixed order, until it
// returns false. PyDict_Next hashes nothing: torch.Tensor.__hash__ is a Python function.
template <typename See>
bool visit(PyObject* state, PyObject* groups, See see) {
  static PyObject* const watched[] = {PyUnicode_InternFromString("step"),
                                      PyUnicode_InternFromString("momentum_buffer"),
                                      PyUnicode_InternFromString("first_step")};
  static PyObject* const params_name = PyUnicode_InternFromString("params");
  static PyObject* const schedule_name = PyUnicode_InternFromString("schedule");

  PyObject *param, *entry;
  Py_ssize_t position = 0;
  while (PyDict_Next(state, &position, &param, &entry)) {
    if (!see(param) || !see(entry)) return false;
    if (!PyDict_Check(entry)) continue;
    for (PyObject* key : watched) {
      if (!see(PyDict_GetItem(entry, key))) return false;
    }
  }
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(groups); ++i) {
    PyObject* group = PyList_GET_ITEM(groups, i);
    PyObject* params = PyDict_GetItem(group, params_name);
    if (!see(group) || !see(params) || !see(PyDict_GetItem(group, schedule_name))) return false;
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
