#include "host/tensor.h"

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

namespace {

// Whether torch wants the memory read with the opposite sign, which DLPack cannot say.
bool is_negated(PyObject* tensor) {
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  const py::object answer =
      py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(tensor, is_neg));
  if (!answer) throw py::error_already_set();
  return answer.ptr() == Py_True;
}

bool view_by_dlpack(PyObject* object, DLTensor* view) {
  if (exchange_api()->dltensor_from_py_object_no_sync(object, view) != 0) {
    PyErr_Clear();
    return false;
  }
  return !is_negated(object);
}

// Wrappers around other tensors, and torch's own symbolic zeros, have no memory.
bool has_memory(const DLTensor& view) { return view.data != nullptr || n_elements_of(view) == 0; }

}  // namespace

bool view_tensor(const TensorLook& look, DLTensor* view) {
  return look.view(view) && look.view_device(&view->device) && look.fits_storage(*view) &&
         has_memory(*view);
}

bool view_tensor(PyObject* object, DLTensor* view) {
  if (!reads_libtorch()) return view_by_dlpack(object, view) && has_memory(*view);
  const TensorLook look(object);
  return look && view_tensor(look, view);
}

bool is_tensor(PyObject* object) {
  static const py::handle tensor_base =
      py::object(py::module_::import("torch").attr("_C").attr("TensorBase")).release();
  return PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(tensor_base.ptr()));
}

void Layouts::push_back(const DLTensor& view) {
  for (int32_t i = 0; i < view.ndim; ++i) {
    sizes_and_strides_.push_back(view.shape[i]);
    sizes_and_strides_.push_back(view.strides[i]);
  }
  begin_.push_back(sizes_and_strides_.size());
}

bool Layouts::match(size_t i, const DLTensor& view) const {
  const int64_t* own = sizes_and_strides_.data() + begin_[i];
  if (begin_[i + 1] - begin_[i] != 2 * static_cast<size_t>(view.ndim)) return false;
  bool same_strides = true, empty = false;
  for (int32_t d = 0; d < view.ndim; ++d, own += 2) {
    if (view.shape[d] != own[0]) return false;
    // The stride of a dimension of size 1 says nothing: torch keeps any number there.
    if (own[0] > 1 && view.strides[d] != own[1]) same_strides = false;
    if (own[0] == 0) empty = true;
  }
  return same_strides || empty;
}

}  // namespace fused_warmup
