// What is asked of one tensor at each step: whether it is where it was, and if not, all about it.
#pragma once

#include <Python.h>
#include <dlpack/dlpack.h>

#include <cstdint>
#include <initializer_list>

#include "host/torch_abi.h"
#include "launch/plan.h"

namespace fused_warmup {

// Where a tensor was, and of which type, when it was last examined in full.
struct Place {
  void* data = nullptr;
  int64_t storage_bytes = -1;
  int32_t dtype_code = -1;  // of libtorch
  DType dtype{};
};

// A borrowed look at whatever tensor a Python object holds at the time of each question: objects
// may exchange their tensors (torch.utils.swap_tensors). Good as long as the object lives.
class TensorLook {
 public:
  TensorLook() = default;
  // No look where reads_libtorch() is false or the object is no tensor.
  explicit TensorLook(PyObject* object);
  explicit operator bool() const { return tensor_ != nullptr; }

  // The tensor's gradient, until it is replaced; no look if it has none.
  TensorLook grad() const;

  // Whether the tensor is at that place with these sizes and strides, in memory of its own that
  // they describe, as view() has it; n_dims pairs of them. False, where that is not seen at once.
  bool is_at(const Place& place, const int64_t* sizes_and_strides, int32_t n_dims) const;
  // The place of a tensor that view() has just filled in.
  Place place(const DLTensor& view) const;

  // Fills in everything but the device. False where the tensor has no memory of its own that its
  // sizes and strides describe: another layout, a wrapper, a negated view, a dtype that no kernel
  // has.
  bool view(DLTensor* view) const;
  bool view_device(DLDevice* device) const;
  // Whether the tensor lies within its storage.
  bool fits_storage(const DLTensor& view) const;

  // Tells autograd that the tensor has been written to. Throws for an inference tensor outside of
  // inference mode.
  void bump_version() const { torch_abi.bump_version(tensor_); }

  // How often it has been written to; -1 where nobody counts, for an inference tensor.
  int64_t version() const;

  // What a look reads lies three levels deep: the pointer to the tensor's implementation, the
  // implementation, and what that points to. Each of these asks the processor for one piece and
  // reads the levels above it, which have to be there by then or are waited for. Offsets in bytes:
  // what libtorch's functions read, as torch 2.13 has it. Always inlined: to gcc a function that
  // only prefetches does nothing, and calls to it go.
  [[gnu::always_inline]] void prefetch() const { __builtin_prefetch(tensor_); }
  [[gnu::always_inline]] void prefetch_impl() const {
    const char* impl = static_cast<const char*>(*tensor_);
    for (const int offset : {0, 64, 128, 175}) __builtin_prefetch(impl + offset);
  }
  // Of the implementation, the words that point elsewhere alone.
  [[gnu::always_inline]] void prefetch_parts() const {
    const void* const* words = static_cast<const void* const*>(*tensor_);
    __builtin_prefetch(words + torch_abi.storage_word + 3);
  }
  [[gnu::always_inline]] void prefetch_storage() const {
    const char* storage = static_cast<const char*>(part(0));
    for (const int offset : {16, 59}) __builtin_prefetch(storage + offset);
  }
  // Autograd's record, which holds the gradient.
  [[gnu::always_inline]] void prefetch_record() const {
    const char* record = static_cast<const char*>(part(1));
    for (const int offset : {0, 47}) __builtin_prefetch(record + offset);
  }
  [[gnu::always_inline]] void prefetch_version() const {
    __builtin_prefetch(static_cast<const char*>(part(3)) + 16);
  }

 private:
  // A word of the implementation, counted from the one that points to the storage. Those to
  // autograd's record and to the version come after it, as torch has them; where it does not, what
  // is asked for is not used.
  const void* part(int i) const {
    return static_cast<const void* const*>(*tensor_)[torch_abi.storage_word + i];
  }

  // An at::Tensor, which is one pointer: inside the Python object, or inside a parameter's record
  // of its gradient.
  TorchAbi::Tensor* tensor_ = nullptr;
};

}  // namespace fused_warmup
