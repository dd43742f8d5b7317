// The few functions of libtorch that tell where a tensor's memory is, found in the library that the
// process already runs. They answer in a few nanoseconds; where a release lacks one, DLPack and
// Python answer the same question, only slower.
//
// Most are of torch's stable C interface:
// https://docs.pytorch.org/docs/stable/notes/libtorch_stable_abi.html
// Two are C++ functions, of a parameter's gradient and of its version, which no stable interface
// offers yet; they are used with the releases of torch that they were read in (KNOWN_RELEASES).
#pragma once

#include <Python.h>
#include <dlpack/dlpack.h>

#include <cstdint>

namespace fused_warmup {

// A borrowed look at a tensor whose Python object is kept alive by somebody else.
class TensorLook {
 public:
  TensorLook() = default;
  // `data` is where DLPack says the memory is: a look that sees it elsewhere is no good.
  TensorLook(PyObject* tensor, const void* data);

  // Whether this release of torch offers the look; if not, the rest may not be asked.
  explicit operator bool() const { return impl_ != nullptr; }

  // Whether memory and strides are still these.
  bool is_at(const void* data, const int64_t* sizes_and_strides, int32_t n_dims) const;

  enum class Grad { NONE, VIEWED, UNKNOWN };
  // The tensor's gradient; `view` then says all but the device, which is the tensor's own. UNKNOWN:
  // ask Python.
  Grad view_grad(DLTensor* view) const;

  // Tells autograd that the tensor, or its gradient, has been written to, where can_bump().
  bool can_bump() const;
  void bump_version() const;
  void bump_grad_version() const;

  // Finds what prefetch() asks the processor for: the memory that a look at the tensor reads.
  void find_prefetch_address(PyObject* tensor);
  [[gnu::always_inline]] void prefetch() const {
    const char* impl = static_cast<const char*>(impl_);
    for (int line = 0; line < 3; ++line) __builtin_prefetch(impl + 64 * line);
    __builtin_prefetch(storage_);
    __builtin_prefetch(static_cast<const char*>(storage_) + 64);
  }

 private:
  void* impl_ = nullptr;           // what torch's handle points to: the tensor's implementation
  void* const* cell_ = nullptr;    // where the Python object keeps that pointer
  const void* storage_ = nullptr;  // its storage at one time; only to prefetch, never read
};

}  // namespace fused_warmup
