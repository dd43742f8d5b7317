// The few functions of libtorch that tell where a tensor's memory is, found in the library that the
// process already runs. They answer in a few nanoseconds and run no Python, so that nothing can
// change between a look and the launch that relies on it. Where a release lacks one, DLPack and
// Python answer the same questions, only slower. tensor_look.h asks them.
//
// Most are of torch's stable C interface:
// https://docs.pytorch.org/docs/stable/notes/libtorch_stable_abi.html
// Four are C++ functions, for a tensor's gradient, its version and its sign, which no stable
// interface offers yet. Before any of them is relied on, all are tried on tensors whose answers are
// known (`reads_libtorch`), so that no list of releases need be kept.
#pragma once

#include <Python.h>

#include <cstdint>

namespace fused_warmup {

// Whether this release of torch has the functions and they gave the right answers when tried.
bool reads_libtorch();

// Whether a profiler of torch's records this thread; true as well where this torch does not tell.
bool may_be_profiled();

struct TorchAbi {
  // A tensor as libtorch passes it by reference: an at::Tensor is one pointer.
  using Tensor = void* const;

  // As torch/csrc/inductor/aoti_torch/c/shim.h declares them; 0 is success.
  int32_t (*get_data_ptr)(Tensor* tensor, void** data);
  int32_t (*get_sizes)(Tensor* tensor, int64_t** sizes);
  int32_t (*get_strides)(Tensor* tensor, int64_t** strides);
  int32_t (*get_dim)(Tensor* tensor, int64_t* value);
  int32_t (*get_storage_size)(Tensor* tensor, int64_t* bytes);
  int32_t (*get_storage_offset)(Tensor* tensor, int64_t* elements);
  int32_t (*get_dtype)(Tensor* tensor, int32_t* code);
  int32_t (*get_layout)(Tensor* tensor, int32_t* code);
  int32_t (*get_device_type)(Tensor* tensor, int32_t* code);
  int32_t (*get_device_index)(Tensor* tensor, int32_t* index);
  int32_t (*delete_tensor)(void** tensor);
  // torch/csrc/stable/c/shim.h, since 2.14: a handle, as the Python function before it makes. Null
  // where this release lacks it.
  int32_t (*from_object)(void* object, void*** handle);

  // const at::Tensor& c10::TensorImpl::grad() const
  Tensor* (*grad_of)(const void* impl);
  // void torch::autograd::impl::bump_version(const at::Tensor&)
  void (*bump_version)(Tensor* tensor);
  // int64_t at::TensorBase::_version() const
  int64_t (*version)(Tensor* tensor);
  // bool at::native::is_neg(const at::Tensor&): whether memory is to be read with the opposite
  // sign.
  bool (*is_neg)(Tensor* tensor);
  // bool torch::profiler::impl::profilerEnabled(). Null where this release lacks it.
  bool (*profiler_enabled)();

  int32_t strided, float32, float64, bfloat16, float16, int64;
  int32_t cpu, cuda, xpu;
  const void* undefined;  // what stands for "no tensor"
  Py_ssize_t offset;      // of the at::Tensor in a Python tensor
  PyTypeObject* type;     // of all Python tensors
};

// To be asked where reads_libtorch().
extern TorchAbi torch_abi;

}  // namespace fused_warmup
