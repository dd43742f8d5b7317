#include "host/torch_abi.h"

#include <dlfcn.h>
#include <pybind11/pybind11.h>

#include <type_traits>
#include <utility>

#include "host/torch_words.h"

namespace fused_warmup {
namespace {

namespace py = pybind11;

using Tensor = TorchAbi::Tensor;
using GetCode = int32_t (*)();

// Those of C++, by the names that its compilers give them.
constexpr const char* GRAD_OF = "_ZNK3c1010TensorImpl4gradEv";
constexpr const char* BUMP_VERSION = "_ZN5torch8autograd4impl12bump_versionERKN2at6TensorE";
constexpr const char* VERSION = "_ZNK2at10TensorBase8_versionEv";
constexpr const char* IS_NEG = "_ZN2at6native6is_negERKNS_6TensorE";
constexpr const char* PROFILER_ENABLED = "_ZN5torch8profiler4impl15profilerEnabledEv";

// What is found, until it has been tried.
struct Candidate : TorchAbi {
  bool find_symbols();
  bool try_them();
  const void* impl_of(py::handle tensor) const;
  bool find_offset(const py::object& tensor);
};

bool Candidate::find_symbols() {
  void* library = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  bool found = true;
  const auto find = [library, &found](const char* name, auto* function) {
    *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(dlsym(library, name));
    found = found && *function != nullptr;
  };
  find("aoti_torch_get_data_ptr", &get_data_ptr);
  find("aoti_torch_get_sizes", &get_sizes);
  find("aoti_torch_get_strides", &get_strides);
  find("aoti_torch_get_dim", &get_dim);
  find("aoti_torch_get_storage_size", &get_storage_size);
  find("aoti_torch_get_storage_offset", &get_storage_offset);
  find("aoti_torch_get_dtype", &get_dtype);
  find("aoti_torch_get_layout", &get_layout);
  find("aoti_torch_get_device_type", &get_device_type);
  find("aoti_torch_get_device_index", &get_device_index);
  find("aoti_torch_delete_tensor_object", &delete_tensor);
  find(BUMP_VERSION, &bump_version);
  find(VERSION, &version);
  find(IS_NEG, &is_neg);
  find(GRAD_OF, &grad_of);  // of libc10, which libtorch_cpu needs
  for (const auto& [name, code] : {std::pair{"aoti_torch_layout_strided", &strided},
                                   {"aoti_torch_dtype_float32", &float32},
                                   {"aoti_torch_dtype_float64", &float64},
                                   {"aoti_torch_dtype_bfloat16", &bfloat16},
                                   {"aoti_torch_dtype_float16", &float16},
                                   {"aoti_torch_dtype_int64", &int64},
                                   {"aoti_torch_device_type_cpu", &cpu},
                                   {"aoti_torch_device_type_cuda", &cuda},
                                   {"aoti_torch_device_type_xpu", &xpu}}) {
    GetCode get_code = nullptr;
    find(name, &get_code);
    if (get_code != nullptr) *code = get_code();
  }
  if (!found) return false;
  profiler_enabled = reinterpret_cast<decltype(profiler_enabled)>(dlsym(library, PROFILER_ENABLED));
  void* python_library = dlopen("libtorch_python.so", RTLD_LAZY | RTLD_NOLOAD);
  from_object = reinterpret_cast<decltype(from_object)>(
      dlsym(python_library != nullptr ? python_library : library, "torch_tensor_from_pyobject"));
  return true;
}

// What a tensor's Python object stands for; null where this torch does not tell.
const void* Candidate::impl_of(py::handle tensor) const {
  void** handle = nullptr;
  py::object capsule;
  if (from_object != nullptr) {
    if (from_object(tensor.ptr(), &handle) != 0) return nullptr;
  } else {
    const py::object c = py::module_::import("torch").attr("_C");
    const py::object aoti = py::getattr(c, "_aoti", py::none());
    const py::object make = py::getattr(aoti, "unsafe_alloc_void_ptr_from_tensor", py::none());
    if (make.is_none()) return nullptr;
    capsule = make(tensor);
    handle = static_cast<void**>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
    if (handle == nullptr) throw py::error_already_set();
  }
  const void* impl = *handle;
  delete_tensor(handle);
  return impl;
}

// Finds the one word of a Python tensor that points to its implementation.
bool Candidate::find_offset(const py::object& tensor) {
  const void* impl = impl_of(tensor);
  if (impl == nullptr) return false;
  const auto* words = reinterpret_cast<const void* const*>(tensor.ptr());
  const auto n_words =
      static_cast<size_t>(Py_TYPE(tensor.ptr())->tp_basicsize) / sizeof(const void*);
  int n_found = 0;
  for (size_t i = sizeof(PyObject) / sizeof(void*); i < n_words; ++i) {
    if (words[i] != impl) continue;
    offset = static_cast<Py_ssize_t>(i * sizeof(void*));
    ++n_found;
  }
  return n_found == 1;
}

// Asks everything about tensors whose answers are known.
bool Candidate::try_them() {
  const py::module_ torch = py::module_::import("torch");
  const py::object base = torch.attr("_C").attr("TensorBase");
  type = reinterpret_cast<PyTypeObject*>(base.ptr());
  const py::object whole = torch.attr("zeros")(4, 3, py::arg("device") = "cpu",
                                               py::arg("dtype") = torch.attr("float32"));
  const py::object p = whole.attr("t")().attr("__getitem__")(py::slice(1, 3, 1));
  if (!find_offset(p)) return false;
  const auto tensor_of = [this](const py::object& object) {
    return reinterpret_cast<Tensor*>(reinterpret_cast<char*>(object.ptr()) + offset);
  };
  Tensor* tensor = tensor_of(p);
  if (*tensor != impl_of(p)) return false;

  void* data = nullptr;
  int64_t *sizes = nullptr, *strides = nullptr, n_dims = 0, bytes = 0, start = 0;
  int32_t dtype = 0, layout = 0, device = 0;
  if (get_data_ptr(tensor, &data) != 0 || get_sizes(tensor, &sizes) != 0 ||
      get_strides(tensor, &strides) != 0 || get_dim(tensor, &n_dims) != 0 ||
      get_storage_size(tensor, &bytes) != 0 || get_storage_offset(tensor, &start) != 0 ||
      get_dtype(tensor, &dtype) != 0 || get_layout(tensor, &layout) != 0 ||
      get_device_type(tensor, &device) != 0) {
    return false;
  }
  if (reinterpret_cast<uintptr_t>(data) != p.attr("data_ptr")().cast<uintptr_t>() || n_dims != 2 ||
      sizes[0] != 2 || sizes[1] != 4 || strides[0] != 1 || strides[1] != 3 || bytes != 48 ||
      start != 1 || dtype != float32 || layout != strided || device != cpu) {
    return false;
  }
  if (is_neg(tensor) || !is_neg(tensor_of(torch.attr("_neg_view")(p)))) return false;

  const py::object leaf = torch.attr("ones")(2, py::arg("device") = "cpu").attr("requires_grad_")();
  const py::object empty = torch.attr("ones")(2, py::arg("device") = "cpu");
  undefined = *grad_of(*tensor_of(leaf));
  if (undefined == nullptr || undefined != *grad_of(*tensor_of(empty))) return false;
  leaf.attr("grad") = empty;
  if (*grad_of(*tensor_of(leaf)) != *tensor_of(empty)) return false;
  leaf.attr("grad") = py::none();
  if (*grad_of(*tensor_of(leaf)) != undefined) return false;

  const auto before = leaf.attr("_version").cast<int64_t>();
  bump_version(tensor_of(leaf));
  return leaf.attr("_version").cast<int64_t>() == before + 1 &&
         version(tensor_of(leaf)) == before + 1;
}

bool find_functions() {
  Candidate candidate{};
  // Tried on ordinary tensors, whatever mode the first step runs under.
  const py::object mode = py::module_::import("torch").attr("inference_mode")(false);
  mode.attr("__enter__")();
  bool good = false;
  try {
    good = candidate.find_symbols() && candidate.try_them();
  } catch (const py::error_already_set&) {  // it lacks what the trial needs
  }
  if (good) torch_abi = candidate;
  if (good) torch_words = find_torch_words(candidate);
  mode.attr("__exit__")(py::none(), py::none(), py::none());
  return good;
}

}  // namespace

TorchAbi torch_abi{};

bool reads_libtorch() {
  static const bool found = find_functions();
  return found;
}

bool may_be_profiled() {
  return !reads_libtorch() || torch_abi.profiler_enabled == nullptr || torch_abi.profiler_enabled();
}

}  // namespace fused_warmup
