#include "host/tensor_look.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "host/torch_abi.h"

namespace fused_warmup {

TensorLook::TensorLook(PyObject* object) {
  if (!reads_libtorch() || !PyObject_TypeCheck(object, torch_abi.type)) return;
  tensor_ = reinterpret_cast<TorchAbi::Tensor*>(reinterpret_cast<char*>(object) + torch_abi.offset);
}

int32_t Forms::form_of(const TensorLook& look, const DLTensor& view) {
  const std::optional<Form> form = look ? look.form(view) : std::nullopt;
  if (!form) return Place::NO_FORM;
  constexpr size_t N_SEARCHED = 64;  // like tensors are near to each other
  const size_t first = forms_.size() - std::min(forms_.size(), N_SEARCHED);
  for (size_t i = forms_.size(); i > first; --i) {
    if (std::memcmp(&forms_[i - 1], &*form, sizeof *form) == 0) return static_cast<int32_t>(i - 1);
  }
  if (forms_.size() >= max_size_) return Place::NO_FORM;
  forms_.push_back(*form);
  return static_cast<int32_t>(forms_.size() - 1);
}

std::optional<Form> TensorLook::form(const DLTensor& view) const {
  const TorchWords& at = torch_words;
  if (!at.found || view.data == nullptr) return std::nullopt;
  const auto* impl = static_cast<const uintptr_t*>(*tensor_);
  const uintptr_t* const description = impl + at.described_at;
  // Else a subclass may answer something else each time, or sizes lie where these words do not
  // tell.
  if (impl[0] != at.vtable || reinterpret_cast<const uintptr_t*>(view.shape) != description + 1) {
    return std::nullopt;
  }
  const auto* storage = reinterpret_cast<const uintptr_t*>(impl[at.storage]);
  Form form{};
  std::copy_n(description, TorchWords::N_DESCRIBING, form.description);
  form.storage_bytes = storage[at.storage_bytes];
  form.offset =
      static_cast<char*>(view.data) - reinterpret_cast<const char*>(storage[at.storage_data]);
  void* data = nullptr;
  if (!has(form, &data) || data != view.data) return std::nullopt;
  return form;
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
