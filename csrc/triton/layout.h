// Where the fields of the tables lie that the Triton kernel reads, in bytes, by name: Python takes
// them from here and states none of them again.
#pragma once

#include <pybind11/pybind11.h>

namespace fused_warmup {
namespace triton {

// {"TensorEntry": {"size": 56, "param": 0, ...}, "Group": ..., "Schedule": ..., "Segment": ...},
// and by the names of C++ the values of what are codes there: {"DType": {"FLOAT32": 0, ...}, ...}.
pybind11::dict layout();

}  // namespace triton
}  // namespace fused_warmup
