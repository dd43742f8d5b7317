#include "host/tensor_look.h"

#include <exception>

#include "host/torch_abi.h"

namespace fused_warmup {

TensorLook::TensorLook(PyObject* object) {
  if (!reads_libtorch() || !PyObject_TypeCheck(object, torch_abi.type)) return;
  tensor_ = reinterpret_cast<TorchAbi::Tensor*>(reinterpret_cast<char*>(object) + torch_abi.offset);
}

TensorLook TensorLook::grad() const {
  TensorLook look;
  TorchAbi::Tensor* found = torch_abi.grad_of(*tensor_);
  if (*found != torch_abi.undefined) look.tensor_ = found;
  return look;
}

// Asked for each tensor of each step, and so without a detour.
bool TensorLook::is_at(const Place& place, const int64_t* sizes_and_strides, int32_t n_dims) const {
  void* data = nullptr;
  int64_t *sizes = nullptr, *strides = nullptr, bytes = 0, dims = 0;
  int32_t layout = 0, dtype = 0;
  // The layout first: others have no memory to ask for, and say so on standard error.
  if (*tensor_ == torch_abi.undefined || torch_abi.get_layout(tensor_, &layout) != 0 ||
      layout != torch_abi.strided || torch_abi.is_neg(tensor_)) {
    return false;
  }
  if (torch_abi.get_data_ptr(tensor_, &data) != 0 || data != place.data ||
      torch_abi.get_storage_size(tensor_, &bytes) != 0 || bytes != place.storage_bytes ||
      torch_abi.get_dtype(tensor_, &dtype) != 0 || dtype != place.dtype_code ||
      torch_abi.get_dim(tensor_, &dims) != 0 || dims != n_dims ||
      torch_abi.get_sizes(tensor_, &sizes) != 0 || torch_abi.get_strides(tensor_, &strides) != 0) {
    return false;
  }
  for (int32_t i = 0; i < n_dims; ++i) {
    const int64_t size = sizes_and_strides[2 * i], stride = sizes_and_strides[2 * i + 1];
    // The stride of a dimension of size 1 says nothing: torch keeps any number there.
    if (sizes[i] != size || (strides[i] != stride && size != 1)) return false;
  }
  return true;
}

Place TensorLook::place(const DLTensor& view) const {
  Place place;
  place.data = view.data;
  torch_abi.get_storage_size(tensor_, &place.storage_bytes);
  torch_abi.get_dtype(tensor_, &place.dtype_code);
  return place;
}

bool TensorLook::view(DLTensor* view) const {
  int32_t layout = 0, dtype = 0;
  int64_t n_dims = 0;
  int64_t *sizes = nullptr, *strides = nullptr;
  if (*tensor_ == torch_abi.undefined) return false;
  // The layout first: others have no memory to ask for, and say so on standard error.
  if (torch_abi.get_layout(tensor_, &layout) != 0 || layout != torch_abi.strided ||
      torch_abi.is_neg(tensor_)) {
    return false;
  }
  if (torch_abi.get_data_ptr(tensor_, &view->data) != 0 ||
      torch_abi.get_dim(tensor_, &n_dims) != 0 || torch_abi.get_sizes(tensor_, &sizes) != 0 ||
      torch_abi.get_strides(tensor_, &strides) != 0 || torch_abi.get_dtype(tensor_, &dtype) != 0) {
    return false;
  }
  view->ndim = static_cast<int32_t>(n_dims);
  view->shape = sizes;  // to const in some of torch's copies of dlpack.h
  view->strides = strides;
  view->byte_offset = 0;
  if (dtype == torch_abi.float32) {
    view->dtype = {kDLFloat, 32, 1};
  } else if (dtype == torch_abi.bfloat16) {
    view->dtype = {kDLBfloat, 16, 1};
  } else if (dtype == torch_abi.float16) {
    view->dtype = {kDLFloat, 16, 1};
  } else if (dtype == torch_abi.float64) {
    view->dtype = {kDLFloat, 64, 1};
  } else if (dtype == torch_abi.int64) {
    view->dtype = {kDLInt, 64, 1};
  } else {
    return false;
  }
  return true;
}

bool TensorLook::view_device(DLDevice* device) const {
  int32_t type = 0, index = 0;
  if (torch_abi.get_device_type(tensor_, &type) != 0) return false;
  if (type == torch_abi.cpu) {
    *device = {kDLCPU, 0};
    return true;
  }
  if (type != torch_abi.cuda && type != torch_abi.xpu) return false;
  if (torch_abi.get_device_index(tensor_, &index) != 0) return false;
  *device = {type == torch_abi.cuda ? kDLCUDA : kDLOneAPI, index};
  return true;
}

bool TensorLook::fits_storage(const DLTensor& view) const {
  int64_t offset = 0, last = 0, bytes = -1;
  if (torch_abi.get_storage_offset(tensor_, &offset) != 0 || offset < 0 ||
      torch_abi.get_storage_size(tensor_, &bytes) != 0) {
    return false;
  }
  for (int32_t i = 0; i < view.ndim; ++i) {
    if (view.shape[i] == 0) return true;
    last += (view.shape[i] - 1) * view.strides[i];
  }
  return (offset + last + 1) * (view.dtype.bits / 8) <= bytes;
}

int64_t TensorLook::version() const {
  try {
    return torch_abi.version(tensor_);
  } catch (const std::exception&) {
    return -1;
  }
}

}  // namespace fused_warmup
