// Page-locked buffers that copies to the device go through, in turn. A buffer is written again only
// after the copy that reads it is done.
#pragma once

#include <cstring>
#include <utility>

#include "cuda/resources.h"

namespace fused_warmup {
namespace cuda {

class Staging {
 public:
  Staging() = default;
  Staging(Staging&& other) noexcept {
    std::swap(slots_, other.slots_);
    std::swap(next_, other.next_);
  }
  // Comes when all copies are done; see is_idle().
  ~Staging() {
    for (Slot& slot : slots_) {
      if (slot.data != nullptr) ignore(cudaFreeHost(slot.data));
      if (slot.copied != nullptr) ignore(cudaEventDestroy(slot.copied));
    }
  }

  // Whether make_room() has nothing to do.
  bool has_room(size_t size) { return !next().copying && next().size >= size; }

  // Makes the next buffer hold `size` bytes. Whether it may be written; else wait() first.
  bool make_room(size_t size) {
    Slot& slot = next();
    if (slot.copied == nullptr) {
      check(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming), "cudaEventCreate");
    }
    if (!is_done(slot)) return false;
    if (slot.size < size) {
      if (slot.data != nullptr) ignore(cudaFreeHost(slot.data));
      slot.data = nullptr;
      slot.size = 0;
      check(cudaMallocHost(reinterpret_cast<void**>(&slot.data), size), "cudaMallocHost");
      slot.size = size;
    }
    return true;
  }

  void wait() {
    Slot& slot = next();
    check(cudaEventSynchronize(slot.copied), "cudaEventSynchronize");
    slot.copying = false;
  }

  // Copies to the device in the order of the stream's work. Comes after make_room() was true.
  void upload(const char* from, char* to, size_t size, cudaStream_t stream) {
    Slot& slot = next();
    std::memcpy(slot.data, from, size);
    check(cudaMemcpyAsync(to, slot.data, size, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
    slot.copying = true;
    ++next_;
    const cudaError_t recorded = cudaEventRecord(slot.copied, stream);
    if (recorded == cudaSuccess) return;
    // Nothing but the stream tells now when the buffer is free; where that fails too, it never is.
    const cudaError_t waited = cudaStreamSynchronize(stream);
    if (waited != cudaSuccess) slot = {nullptr, 0, slot.copied, false};
    slot.copying = false;
    ignore(waited);
    check(recorded, "cudaEventRecord");
  }

  // Whether no copy is under way.
  bool is_idle() {
    for (Slot& slot : slots_) {
      if (!is_done(slot)) return false;
    }
    return true;
  }

 private:
  static constexpr int N_SLOTS = 4;
  struct Slot {
    char* data = nullptr;
    size_t size = 0;
    cudaEvent_t copied = nullptr;
    bool copying = false;
  };

  Slot& next() { return slots_[next_ % N_SLOTS]; }

  bool is_done(Slot& slot) {
    if (!slot.copying) return true;
    const cudaError_t error = cudaEventQuery(slot.copied);
    if (error == cudaErrorNotReady) {
      cudaGetLastError();
      return false;
    }
    check(error, "cudaEventQuery");
    slot.copying = false;
    return true;
  }

  Slot slots_[N_SLOTS];
  size_t next_ = 0;
};

}  // namespace cuda
}  // namespace fused_warmup
