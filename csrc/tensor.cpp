#include "tensor.h"

namespace fused_warmup {

const DLPackExchangeAPI* exchange_api() {
  static const DLPackExchangeAPI* const api = [] {
    const py::object tensor_type = py::module_::import("torch").attr("Tensor");
    if (!py::hasattr(tensor_type, "__dlpack_c_exchange_api__")) {
      throw py::import_error(
          "the native kernels need torch >= 2.11: this torch.Tensor has no "
          "__dlpack_c_exchange_api__; upgrade torch, or pass backend='reference'");
    }
    const py::object capsule = tensor_type.attr("__dlpack_c_exchange_api__");
    void* pointer = PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api");
    if (pointer == nullptr) throw py::error_already_set();
    const auto* found = static_cast<const DLPackExchangeAPI*>(pointer);
    if (found->header.version.major != DLPACK_MAJOR_VERSION) {
      throw py::import_error("torch speaks DLPack " + std::to_string(found->header.version.major) +
                             ", this extension was built for DLPack " +
                             std::to_string(DLPACK_MAJOR_VERSION) + "; rebuild fused_warmup");
    }
    return found;
  }();
  return api;
}

bool view_tensor(PyObject* object, DLTensor* view) {
  if (exchange_api()->dltensor_from_py_object_no_sync(object, view) == 0) return true;
  PyErr_Clear();
  return false;
}

std::optional<DType> dtype_of(const DLTensor& view) {
  if (view.dtype.lanes != 1) return std::nullopt;
  if (view.dtype.code == kDLFloat) {
    switch (view.dtype.bits) {
      case 16:
        return DType::FLOAT16;
      case 32:
        return DType::FLOAT32;
      case 64:
        return DType::FLOAT64;
    }
  }
  if (view.dtype.code == kDLBfloat && view.dtype.bits == 16) return DType::BFLOAT16;
  return std::nullopt;
}

Layout::Layout(const DLTensor& view)
    : device(view.device),
      shape(view.shape, view.shape + view.ndim),
      strides(view.strides, view.strides + view.ndim) {}

bool Layout::matches(const DLTensor& view) const {
  if (view.device.device_type != device.device_type || view.device.device_id != device.device_id ||
      static_cast<size_t>(view.ndim) != shape.size()) {
    return false;
  }
  for (size_t i = 0; i < shape.size(); ++i) {
    if (view.shape[i] != shape[i]) return false;
    // The stride of a dimension of size 1 says nothing: torch keeps any number there.
    if (shape[i] > 1 && view.strides[i] != strides[i]) return false;
  }
  return true;
}

int64_t Layout::n_elements() const {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

}  // namespace fused_warmup
