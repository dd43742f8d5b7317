// torch tensors through the DLPack C exchange API: pointer, dtype, shape and strides at C speed,
// without a line of torch at build time.
// https://dmlc.github.io/dlpack/latest/ (DLPack >= 1.3); torch >= 2.11 provides it.
#pragma once

#include <dlpack/dlpack.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <vector>

#include "plan.h"

namespace fused_warmup {

namespace py = pybind11;

const DLPackExchangeAPI* exchange_api();

// A borrowed look at a tensor, good until control returns to Python. False, and no Python error
// set, where DLPack cannot describe the object (sparse, for one).
bool view_tensor(PyObject* object, DLTensor* view);

std::optional<DType> dtype_of(const DLTensor& view);

inline void* data_of(const DLTensor& view) {
  return static_cast<char*>(view.data) + view.byte_offset;
}

// Device, shape and strides of a tensor. Two tensors of equal layout that is dense can be walked
// with one flat index.
struct Layout {
  DLDevice device{};
  std::vector<int64_t> shape, strides;

  Layout() = default;
  explicit Layout(const DLTensor& view);
  bool matches(const DLTensor& view) const;
  int64_t n_elements() const;
};

}  // namespace fused_warmup
