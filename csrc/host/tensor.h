// torch tensors through the DLPack C exchange API: pointer, dtype, shape and strides at C speed,
// without a line of torch at build time.
// https://dmlc.github.io/dlpack/latest/ (DLPack >= 1.3); torch >= 2.11 provides it.
#pragma once

#include <dlpack/dlpack.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "host/tensor_look.h"
#include "launch/plan.h"

namespace fused_warmup {

namespace py = pybind11;

const DLPackExchangeAPI* exchange_api();

// A borrowed look at a tensor, good until control returns to Python; runs no Python where
// reads_libtorch(). False, and no Python error set, where the object is no dense tensor with memory
// of its own: sparse, a wrapper, a negated view.
bool view_tensor(PyObject* object, DLTensor* view);
bool view_tensor(const TensorLook& look, DLTensor* view);

// Whether an object is a torch.Tensor.
bool is_tensor(PyObject* object);

inline std::optional<DType> dtype_of(const DLTensor& view) {
  if (view.dtype.lanes != 1) return std::nullopt;
  if (view.dtype.code == kDLFloat) {
    if (view.dtype.bits == 32) return DType::FLOAT32;
    if (view.dtype.bits == 16) return DType::FLOAT16;
    if (view.dtype.bits == 64) return DType::FLOAT64;
  }
  if (view.dtype.code == kDLBfloat && view.dtype.bits == 16) return DType::BFLOAT16;
  return std::nullopt;
}

inline void* data_of(const DLTensor& view) {
  return static_cast<char*>(view.data) + view.byte_offset;
}

// The one dtype of counts and marks.
inline bool is_int64(const DLTensor& view) {
  return view.dtype.code == kDLInt && view.dtype.bits == 64 && view.dtype.lanes == 1;
}

inline bool same_device(const DLDevice& a, const DLDevice& b) {
  return a.device_type == b.device_type && a.device_id == b.device_id;
}

inline int64_t n_elements_of(const DLTensor& view) {
  int64_t n = 1;
  for (int32_t i = 0; i < view.ndim; ++i) n *= view.shape[i];
  return n;
}

// Shapes and strides of many tensors, side by side in one block of memory. Two tensors of equal
// layout that is dense can be walked with one flat index.
class Layouts {
 public:
  void push_back(const DLTensor& view);
  // Whether `view` has the layout of tensor i.
  bool match(size_t i, const DLTensor& view) const;

 private:
  std::vector<size_t> begin_{0};
  std::vector<int64_t> sizes_and_strides_;  // of each dimension
};

}  // namespace fused_warmup
