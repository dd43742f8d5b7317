#include "torch_abi.h"

#include <dlfcn.h>
#include <pybind11/pybind11.h>

namespace fused_warmup {
namespace {

namespace py = pybind11;

// As torch/csrc/inductor/aoti_torch/c/shim.h declares them; 0 is success. A handle is an
// at::Tensor*, and an at::Tensor is one pointer.
using GetDataPtr = int32_t (*)(void* const* tensor, void** data);
using GetStrides = int32_t (*)(void* const* tensor, int64_t** strides);
using DeleteTensor = int32_t (*)(void** tensor);

struct Functions {
  GetDataPtr get_data_ptr = nullptr;
  GetStrides get_strides = nullptr;
  DeleteTensor delete_tensor = nullptr;
  py::handle make_handle;  // never released: it may be asked for at exit

  Functions() {
    void* library = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return;
    get_data_ptr = reinterpret_cast<GetDataPtr>(dlsym(library, "aoti_torch_get_data_ptr"));
    get_strides = reinterpret_cast<GetStrides>(dlsym(library, "aoti_torch_get_strides"));
    delete_tensor =
        reinterpret_cast<DeleteTensor>(dlsym(library, "aoti_torch_delete_tensor_object"));
    const py::object aoti =
        py::getattr(py::module_::import("torch").attr("_C"), "_aoti", py::none());
    make_handle = py::getattr(aoti, "unsafe_alloc_void_ptr_from_tensor", py::none()).release();
  }
  bool complete() const {
    return get_data_ptr != nullptr && get_strides != nullptr && delete_tensor != nullptr &&
           !make_handle.is_none();
  }
};

const Functions& functions() {
  static const Functions found;
  return found;
}

// The one word of a Python object that points to its tensor's implementation, or null.
// torch.utils.swap_tensors, by which modules may convert, exchanges that word between two objects.
void* const* find_cell(PyObject* tensor, const void* impl) {
  void* const* const words = reinterpret_cast<void* const*>(tensor);
  const size_t n_words = static_cast<size_t>(Py_TYPE(tensor)->tp_basicsize) / sizeof(void*);
  void* const* found = nullptr;
  for (size_t i = sizeof(PyObject) / sizeof(void*); i < n_words; ++i) {
    if (words[i] != impl) continue;
    if (found != nullptr) return nullptr;
    found = words + i;
  }
  return found;
}

}  // namespace

TensorLook::TensorLook(PyObject* tensor, const void* data) {
  if (!functions().complete()) return;
  const py::object capsule = functions().make_handle(py::handle(tensor));
  void** handle = static_cast<void**>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
  if (handle == nullptr) throw py::error_already_set();
  // The handle owns a reference, which would hide the tensor from Python's garbage collector; what
  // it points to lives as long as the Python object.
  impl_ = *handle;
  functions().delete_tensor(handle);
  cell_ = find_cell(tensor, impl_);
  void* seen = nullptr;
  if (cell_ == nullptr || functions().get_data_ptr(&impl_, &seen) != 0 || seen != data) {
    impl_ = nullptr;
  }
}

void TensorLook::find_prefetch_address(PyObject* tensor) {
  const py::object storage = py::handle(tensor).attr("untyped_storage")();
  storage_ = reinterpret_cast<const void*>(storage.attr("_cdata").cast<uintptr_t>());
}

bool TensorLook::is_at(const void* data, const int64_t* sizes_and_strides, int32_t n_dims) const {
  if (*cell_ != impl_) return false;  // and nobody may have kept the implementation alive
  void* seen = nullptr;
  int64_t* strides = nullptr;
  if (functions().get_data_ptr(&impl_, &seen) != 0 || seen != data) return false;
  if (functions().get_strides(&impl_, &strides) != 0) return false;
  for (int32_t i = 0; i < n_dims; ++i) {
    const int64_t size = sizes_and_strides[2 * i];
    if (size > 1 && strides[i] != sizes_and_strides[2 * i + 1]) return false;
  }
  return true;
}

}  // namespace fused_warmup
