// A group's options as plain numbers, from whatever kinds of numbers users put there.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace fused_warmup {

// As in fused_warmup/_groups/options.py: a scheduler that ends at 0 may come out a rounding below.
constexpr double LEAST_LR = -1e-12;

// The option called `key` as a number. Python's own numbers are read at once; those of NumPy and
// tensors of one element are asked for their value if `may_ask`, which may run Python code. False,
// and no Python error set, where it is no number: Python has the words for that.
bool read_number(PyObject* group, PyObject* key, bool may_ask, double* out);

// The option called `key` as a whole number, which must be Python's own.
bool read_count(PyObject* group, PyObject* key, int64_t* out);

// The option called `key` as a switch: a number or None, on where Python takes it for true.
bool read_flag(PyObject* group, PyObject* key, bool may_ask, int32_t* out);

}  // namespace fused_warmup
