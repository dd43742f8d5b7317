#include "host/options.h"

#include <cstring>

#include "host/tensor.h"

namespace fused_warmup {
namespace {

namespace py = pybind11;

py::object attribute(PyObject* object, const char* key) {
  const auto found = py::reinterpret_steal<py::object>(PyObject_GetAttrString(object, key));
  if (!found) PyErr_Clear();
  return found;
}

// Whether a value that is_numeric() is NumPy's or torch's bool: a switch and no number, as
// Python's.
bool is_bool(PyObject* value) {
  const py::object dtype = attribute(value, "dtype");
  if (!dtype) return false;
  const auto text = py::reinterpret_steal<py::object>(PyObject_Str(dtype.ptr()));
  const char* name = text ? PyUnicode_AsUTF8(text.ptr()) : nullptr;
  if (name == nullptr) PyErr_Clear();
  return name == nullptr || std::strcmp(name, "bool") == 0 || std::strcmp(name, "torch.bool") == 0;
}

// A number or an array of no dimensions of NumPy's, or a tensor, as options.is_number in Python has
// it: these tell their dtype, which text and other things with a value do not. NumPy's kinds of
// real numbers are b, f, i and u; torch refuses to make a float of a complex number itself.
bool is_numeric(PyObject* value) {
  if (is_tensor(value)) {
    const auto complex =
        py::reinterpret_steal<py::object>(PyObject_CallMethod(value, "is_complex", nullptr));
    if (!complex) PyErr_Clear();
    return complex.ptr() == Py_False;
  }
  const py::object dtype = attribute(value, "dtype");
  const py::object kind = dtype ? attribute(dtype.ptr(), "kind") : py::object();
  if (!kind || !PyUnicode_Check(kind.ptr())) return false;
  const char* text = PyUnicode_AsUTF8(kind.ptr());
  if (text == nullptr || (*text != 'b' && *text != 'f' && *text != 'i' && *text != 'u')) {
    PyErr_Clear();
    return false;
  }
  const py::object shape = attribute(value, "shape");
  return shape && PyTuple_Check(shape.ptr()) && PyTuple_GET_SIZE(shape.ptr()) == 0;
}

bool ask_for_number(PyObject* value, double* out) {
  const auto held = py::reinterpret_borrow<py::object>(value);  // its code may drop it elsewhere
  if (is_numeric(value) && !is_bool(value)) {
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Float(value));
    if (number) {
      *out = PyFloat_AS_DOUBLE(number.ptr());
      return true;
    }
  }
  PyErr_Clear();
  return false;
}

}  // namespace

bool read_number(PyObject* group, PyObject* key, bool may_ask, double* out) {
  PyObject* value = PyDict_GetItem(group, key);
  if (value == nullptr) return false;
  if (PyFloat_Check(value)) {
    *out = PyFloat_AS_DOUBLE(value);
    return true;
  }
  if (PyBool_Check(value)) return false;
  if (!PyLong_Check(value)) return may_ask && ask_for_number(value, out);
  *out = PyLong_AsDouble(value);
  if (*out == -1.0 && PyErr_Occurred()) {
    PyErr_Clear();
    return false;
  }
  return true;
}

bool read_count(PyObject* group, PyObject* key, int64_t* out) {
  PyObject* value = PyDict_GetItem(group, key);
  if (value == nullptr || !PyLong_CheckExact(value)) return false;
  int overflow = 0;
  *out = PyLong_AsLongLongAndOverflow(value, &overflow);
  return overflow == 0;
}

bool read_flag(PyObject* group, PyObject* key, bool may_ask, int32_t* out) {
  PyObject* value = PyDict_GetItem(group, key);
  if (value == nullptr) return false;
  if (value == Py_True || value == Py_False) {
    *out = value == Py_True;
    return true;
  }
  if (!may_ask) return false;
  const auto held = py::reinterpret_borrow<py::object>(value);
  if (value != Py_None && !PyLong_Check(value) && !PyFloat_Check(value) && !is_numeric(value)) {
    return false;
  }
  const int truth = PyObject_IsTrue(value);
  if (truth < 0) PyErr_Clear();
  *out = truth;
  return truth >= 0;
}

}  // namespace fused_warmup
