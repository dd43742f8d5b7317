// Which words of libtorch's own objects hold what a step asks of each tensor. A step asks of each
// the same few questions whose answers hardly ever change; that the words are what they were when
// libtorch was asked tells so without a call.
//
// An implementation (c10::TensorImpl) keeps all that describes a tensor in a row of words: number
// of dimensions, sizes and strides of up to five, offset in the storage, number of elements, dtype,
// device and dispatch keys, of which layout and sign follow. Before it come pointers to what
// belongs to it: storage, autograd's record, version. All is found by comparing tensors that differ
// in one thing; where a release has it otherwise, `found` is false and libtorch is asked at each
// step.
#pragma once

#include <cstdint>

namespace fused_warmup {

struct TorchAbi;

struct TorchWords {
  // Of an implementation, from the number of dimensions to the dispatch keys.
  static constexpr int N_DESCRIBING = 15;

  bool found;
  uintptr_t vtable;     // of an ordinary implementation, which answers by its words alone
  int described_at;     // of an implementation, where those words begin
  int storage;          // the word that points to the storage; autograd's record is the next
  int storage_data;     // of a storage, the word that points to its memory
  int storage_bytes;    // the word of its size
  int storage_is_lazy;  // the byte that is set where asking for the memory does more than tell it
  int record_grad;      // of autograd's record, the word that points to the gradient
};

// To be used where `found`.
extern TorchWords torch_words;

// Tries them on tensors whose answers are known; libtorch's functions have been.
TorchWords find_torch_words(const TorchAbi& abi);

}  // namespace fused_warmup
