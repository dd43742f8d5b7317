#include "torch_abi.h"

#include <dlfcn.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

#include "tensor.h"

namespace fused_warmup {
namespace {

// A tensor as libtorch passes it by reference: an at::Tensor is one pointer.
using Tensor = void* const;

// As torch/csrc/inductor/aoti_torch/c/shim.h declares them; 0 is success.
using GetDataPtr = int32_t (*)(Tensor* tensor, void** data);
using GetDims = int32_t (*)(Tensor* tensor, int64_t** sizes_or_strides);
using GetInt64 = int32_t (*)(Tensor* tensor, int64_t* value);
using GetInt32 = int32_t (*)(Tensor* tensor, int32_t* value);
using GetCode = int32_t (*)();
using DeleteTensor = int32_t (*)(void** tensor);

// const at::Tensor& c10::TensorImpl::grad() const
using GradOf = Tensor* (*)(const void* impl);
constexpr const char* GRAD_OF = "_ZNK3c1010TensorImpl4gradEv";
// void torch::autograd::impl::bump_version(const at::Tensor&)
using BumpVersion = void (*)(Tensor* tensor);
constexpr const char* BUMP_VERSION = "_ZN5torch8autograd4impl12bump_versionERKN2at6TensorE";
// Whose sources declare the two so.
constexpr const char* KNOWN_RELEASES[] = {"2.11.", "2.12.", "2.13."};

struct Functions {
  GetDataPtr get_data_ptr = nullptr;
  GetDims get_strides = nullptr, get_sizes = nullptr;
  GetInt64 get_dim = nullptr;
  GetInt32 get_dtype = nullptr, get_layout = nullptr;
  DeleteTensor delete_tensor = nullptr;
  py::handle make_handle;  // never released: it may be asked for at exit
  int32_t strided = 0, float32 = 0, float64 = 0, bfloat16 = 0, float16 = 0;
  GradOf grad_of = nullptr;
  BumpVersion bump_version = nullptr;

  Functions() {
    void* library = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return;
    bool found = true;
    const auto find = [library, &found](const char* name, auto* function) {
      *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(dlsym(library, name));
      found = found && *function != nullptr;
    };
    find("aoti_torch_get_data_ptr", &get_data_ptr);
    find("aoti_torch_get_strides", &get_strides);
    find("aoti_torch_delete_tensor_object", &delete_tensor);
    const py::module_ torch = py::module_::import("torch");
    const py::object aoti = py::getattr(torch.attr("_C"), "_aoti", py::none());
    make_handle = py::getattr(aoti, "unsafe_alloc_void_ptr_from_tensor", py::none()).release();
    complete = found && !make_handle.is_none();

    const std::string release = py::str(torch.attr("__version__"));
    const bool known =
        std::any_of(std::begin(KNOWN_RELEASES), std::end(KNOWN_RELEASES),
                    [&release](const char* prefix) { return release.rfind(prefix, 0) == 0; });
    if (!complete || !known) return;
    find("aoti_torch_get_sizes", &get_sizes);
    find("aoti_torch_get_dim", &get_dim);
    find("aoti_torch_get_dtype", &get_dtype);
    find("aoti_torch_get_layout", &get_layout);
    for (const auto& [name, code] : {std::pair{"aoti_torch_layout_strided", &strided},
                                     {"aoti_torch_dtype_float32", &float32},
                                     {"aoti_torch_dtype_float64", &float64},
                                     {"aoti_torch_dtype_bfloat16", &bfloat16},
                                     {"aoti_torch_dtype_float16", &float16}}) {
      GetCode get_code = nullptr;
      find(name, &get_code);
      if (get_code != nullptr) *code = get_code();
    }
    find(BUMP_VERSION, &bump_version);
    find(GRAD_OF, &grad_of);  // of libc10, which libtorch_cpu needs
    sees_gradients = found;
  }

  bool complete = false;        // the stable part
  bool sees_gradients = false;  // the rest too
};

const Functions& functions() {
  static const Functions found;
  return found;
}

// What a tensor's Python object stands for: its implementation, which lives as long as the object.
void* impl_of(py::handle tensor) {
  const py::object capsule = functions().make_handle(tensor);
  void** handle = static_cast<void**>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
  if (handle == nullptr) throw py::error_already_set();
  void* impl = *handle;
  // The handle owns a reference, which would hide the tensor from Python's garbage collector.
  functions().delete_tensor(handle);
  return impl;
}

// What stands for "no tensor": the gradient of a tensor that has none.
const void* undefined_tensor() {
  static const void* const undefined = [] {
    const py::object tensor = py::module_::import("torch").attr("empty")(0);
    return static_cast<const void*>(*functions().grad_of(impl_of(tensor)));
  }();
  return undefined;
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
  if (!functions().complete) return;
  impl_ = impl_of(tensor);
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

TensorLook::Grad TensorLook::view_grad(DLTensor* view) const {
  const Functions& torch = functions();
  if (impl_ == nullptr || !torch.sees_gradients || *cell_ != impl_) return Grad::UNKNOWN;
  Tensor* grad = torch.grad_of(impl_);
  if (*grad == undefined_tensor()) return Grad::NONE;
  int32_t layout = 0, dtype = 0;
  int64_t n_dims = 0;
  int64_t *sizes = nullptr, *strides = nullptr;
  if (torch.get_layout(grad, &layout) != 0 || layout != torch.strided) return Grad::UNKNOWN;
  if (torch.get_data_ptr(grad, &view->data) != 0 || torch.get_dim(grad, &n_dims) != 0 ||
      torch.get_sizes(grad, &sizes) != 0 || torch.get_strides(grad, &strides) != 0 ||
      torch.get_dtype(grad, &dtype) != 0) {
    return Grad::UNKNOWN;
  }
  view->ndim = static_cast<int32_t>(n_dims);
  view->shape = sizes;  // to const in some of torch's copies of dlpack.h
  view->strides = strides;
  view->byte_offset = 0;
  if (dtype == torch.float32) {
    view->dtype = {kDLFloat, 32, 1};
  } else if (dtype == torch.bfloat16) {
    view->dtype = {kDLBfloat, 16, 1};
  } else if (dtype == torch.float16) {
    view->dtype = {kDLFloat, 16, 1};
  } else if (dtype == torch.float64) {
    view->dtype = {kDLFloat, 64, 1};
  } else {
    return Grad::UNKNOWN;
  }
  // Wrappers have no memory, and what view_tensor() asks Python about one element is asked there.
  const bool at_boundary = reinterpret_cast<uintptr_t>(view->data) % 16 == 0;
  return view->data != nullptr && (n_elements_of(*view) != 1 || at_boundary) ? Grad::VIEWED
                                                                             : Grad::UNKNOWN;
}

bool TensorLook::can_bump() const { return impl_ != nullptr && functions().sees_gradients; }

void TensorLook::bump_version() const { functions().bump_version(&impl_); }

void TensorLook::bump_grad_version() const { functions().bump_version(functions().grad_of(impl_)); }

}  // namespace fused_warmup
