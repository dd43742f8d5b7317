// What is asked of one tensor at each step: whether it is where it was, and if not, all about it.
#pragma once

#include <Python.h>
#include <dlpack/dlpack.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "host/torch_abi.h"
#include "host/torch_words.h"
#include "launch/plan.h"

namespace fused_warmup {

// All about a tensor but where its memory begins, as libtorch's words have it. Tensors of one form
// have the same dtype, device, sizes and strides, and lie at one offset in storages of one size.
struct Form {
  uintptr_t description[TorchWords::N_DESCRIBING];
  uintptr_t storage_bytes;
  ptrdiff_t offset;  // in bytes, in the storage
};

// Where a tensor was, and of which form and type, when it was last examined in full.
struct Place {
  static constexpr int32_t NO_FORM = -1;

  void* data = nullptr;
  int32_t form = NO_FORM;  // see Forms
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

  // Whether the tensor has that form, and memory of its own; *data is where that begins.
  bool has(const Form& form, void** data) const;
  // The form of a tensor that view() has just filled in; none where it is not all in its words.
  std::optional<Form> form(const DLTensor& view) const;

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
  // reads the levels above it, which have to be there by then or are waited for. To be called where
  // torch_words are found. Offsets in bytes: what is read, as torch 2.13 has it. Always inlined: to
  // gcc a function that only prefetches does nothing, and calls to it go.
  [[gnu::always_inline]] void prefetch() const { __builtin_prefetch(tensor_); }
  [[gnu::always_inline]] void prefetch_impl() const {
    const char* impl = static_cast<const char*>(*tensor_);
    for (const int offset : {0, 64, 128, 175}) __builtin_prefetch(impl + offset);
  }
  // Of the implementation, the words that point elsewhere alone.
  [[gnu::always_inline]] void prefetch_parts() const {
    const void* const* words = static_cast<const void* const*>(*tensor_);
    __builtin_prefetch(words + torch_words.storage + 3);
  }
  [[gnu::always_inline]] void prefetch_storage() const {
    const char* storage = static_cast<const char*>(part(0));
    for (const int offset : {16, 59}) __builtin_prefetch(storage + offset);
  }
  // Autograd's record, which holds the gradient.
  [[gnu::always_inline]] void prefetch_record() const {
    const void* const* record = static_cast<const void* const*>(part(1));
    __builtin_prefetch(record + torch_words.record_grad);
  }
  [[gnu::always_inline]] void prefetch_version() const {
    __builtin_prefetch(static_cast<const char*>(part(3)) + 16);
  }

 private:
  // A word of the implementation, counted from the one that points to the storage: those to
  // autograd's record and to the version come after it, as torch has them.
  const void* part(int i) const {
    return static_cast<const void* const*>(*tensor_)[torch_words.storage + i];
  }

  // An at::Tensor, which is one pointer: inside the Python object, or inside a parameter's record
  // of its gradient.
  TorchAbi::Tensor* tensor_ = nullptr;
};

// Forms that tensors were found to have. A model has few, so that they stay in the caches.
class Forms {
 public:
  // max_size: no more are kept than these.
  explicit Forms(size_t max_size) : max_size_(max_size) {}

  // Whether a tensor has the form of its place still; then place->data is where it lies now.
  bool still_fit(const TensorLook& look, Place* place) const;
  // The index of the form of a tensor that was viewed in full, for its place; NO_FORM where its
  // words do not tell all, or there are too many.
  int32_t form_of(const TensorLook& look, const DLTensor& view);

 private:
  size_t max_size_;
  std::vector<Form> forms_;
};

inline TensorLook TensorLook::grad() const {
  TensorLook look;
  if (torch_words.found) {
    auto* record = static_cast<TorchAbi::Tensor*>(part(1));
    if (record == nullptr) return look;
    record += torch_words.record_grad;
    if (*record != torch_abi.undefined) look.tensor_ = record;
    return look;
  }
  TorchAbi::Tensor* found = torch_abi.grad_of(*tensor_);
  if (*found != torch_abi.undefined) look.tensor_ = found;
  return look;
}

// Asked for each tensor of each step, and so without a detour.
inline bool TensorLook::has(const Form& form, void** data) const {
  const TorchWords& at = torch_words;
  const auto* impl = static_cast<const uintptr_t*>(*tensor_);
  const uintptr_t* const description = impl + at.described_at;
  uintptr_t differ = impl[0] ^ at.vtable;
  for (int i = 0; i < TorchWords::N_DESCRIBING; ++i) differ |= description[i] ^ form.description[i];
  const auto* storage = reinterpret_cast<const uintptr_t*>(impl[at.storage]);
  if (differ != 0 || storage == nullptr || storage[at.storage_bytes] != form.storage_bytes ||
      reinterpret_cast<const char*>(storage)[at.storage_is_lazy] != 0) {
    return false;
  }
  auto* memory = reinterpret_cast<char*>(storage[at.storage_data]);
  if (memory == nullptr) return false;
  *data = memory + form.offset;
  return true;
}

inline bool Forms::still_fit(const TensorLook& look, Place* place) const {
  return place->form != Place::NO_FORM && look &&
         look.has(forms_[static_cast<size_t>(place->form)], &place->data);
}

}  // namespace fused_warmup
