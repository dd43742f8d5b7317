// The few functions of libtorch that tell where a tensor's memory is, found in the library that the
// process already runs. They answer in a few nanoseconds and run no Python, so that nothing can
// change between a look and the launch that relies on it. Where a release lacks one, DLPack and
// Python answer the same questions, only slower.
//
// Most are of torch's stable C interface:
// https://docs.pytorch.org/docs/stable/notes/libtorch_stable_abi.html
// Four are C++ functions, for a tensor's gradient, its version and its sign, which no stable
// interface offers yet. Before any of them is relied on, all are tried on tensors whose answers are
// known (`reads_libtorch`), so that no list of releases need be kept.
#pragma once

#include <Python.h>
#include <dlpack/dlpack.h>

#include <cstdint>
#include <initializer_list>

namespace fused_warmup {

// Whether this release of torch has the functions and they gave the right answers when tried.
bool reads_libtorch();

// Whether a profiler of torch's records this thread; true as well where this torch does not tell.
bool may_be_profiled();

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

  // Fills in everything but the device. False where the tensor has no memory of its own that its
  // sizes and strides describe: another layout, a wrapper, a negated view, a dtype that no kernel
  // has.
  bool view(DLTensor* view) const;
  bool view_device(DLDevice* device) const;
  // Bytes of the storage; and whether the tensor lies within them.
  int64_t storage_bytes() const;
  bool fits_storage(const DLTensor& view, int64_t storage_bytes) const;

  // Tells autograd that the tensor has been written to. Throws for an inference tensor outside of
  // inference mode.
  void bump_version() const;

  // How often it has been written to; -1 where nobody counts, for an inference tensor.
  int64_t version() const;

  // What a look reads lies three levels deep: the pointer to the tensor's implementation, the
  // implementation, and what that points to. Each of these asks the processor for one level and
  // reads those above it, which have to be there by then or are waited for. Always inlined: to gcc
  // a function that only prefetches does nothing, and calls to it go.
  [[gnu::always_inline]] void prefetch() const { __builtin_prefetch(tensor_); }
  [[gnu::always_inline]] void prefetch_impl() const {
    const char* impl = static_cast<const char*>(*tensor_);
    for (const int offset : {0, 64, 128, 191}) __builtin_prefetch(impl + offset);
  }
  [[gnu::always_inline]] void prefetch_parts() const {
    const void* const* parts = static_cast<const void* const*>(*tensor_) + first_part();
    const char* storage = static_cast<const char*>(parts[0]);
    for (const int offset : {0, 64}) __builtin_prefetch(storage + offset);
    for (const int i : {1, 3}) __builtin_prefetch(parts[i]);
  }

 private:
  // Index of the pointer to the storage among the words of an implementation. Those to autograd's
  // record and to the version come after it, as torch has them; where it does not, what is asked
  // for is not used.
  static int first_part();

  // An at::Tensor, which is one pointer: inside the Python object, or inside a parameter's record
  // of its gradient.
  void* const* tensor_ = nullptr;
};

}  // namespace fused_warmup
