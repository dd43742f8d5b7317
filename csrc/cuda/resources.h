// What the CUDA launcher holds on to, let go of when a scope ends: the current device, memory on
// the device, page-locked buffers. For launcher.cpp alone.
#pragma once

#include <cuda_runtime_api.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace fused_warmup {
namespace cuda {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // what was reported here must not be met again by somebody else
  throw std::runtime_error(std::string(what) + " failed: " + cudaGetErrorName(error) + ", " +
                           cudaGetErrorString(error));
}

// The calling thread's current device, put back at the end of the scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != device) check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~DeviceGuard() { cudaSetDevice(before_); }

 private:
  int before_ = 0;
};

// While a stream is captured, calls such as cudaMalloc and cudaFree are refused to this thread, and
// spoil the capture, unless it says that it knows what it does: what runs in this scope is not part
// of the graph. Never throws, for destructors need it; a driver that is gone fails the next call.
class OutsideCapture {
 public:
  OutsideCapture() { entered_ = cudaThreadExchangeStreamCaptureMode(&mode_) == cudaSuccess; }
  ~OutsideCapture() {
    if (entered_) cudaThreadExchangeStreamCaptureMode(&mode_);
  }
  OutsideCapture(const OutsideCapture&) = delete;
  OutsideCapture& operator=(const OutsideCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
  bool entered_ = false;
};

// Runs `enqueue` on a stream of its own and waits for it: other streams, one that is being captured
// included, take no notice.
template <typename Enqueue>
void run_aside(Enqueue enqueue) {
  cudaStream_t side = nullptr;
  check(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking), "cudaStreamCreate");
  const cudaError_t enqueued = enqueue(side);
  const cudaError_t done = cudaStreamSynchronize(side);
  cudaStreamDestroy(side);
  check(enqueued, "an operation on a side stream");
  check(done, "cudaStreamSynchronize");
}

// Device memory for one table. Freed without a look at errors: at exit the driver may be gone.
class DeviceTable {
 public:
  DeviceTable() = default;
  explicit DeviceTable(size_t size) : size_(size) {
    check(cudaMalloc(reinterpret_cast<void**>(&data_), size), "cudaMalloc");
  }
  ~DeviceTable() {
    const OutsideCapture outside;
    cudaFree(data_);
  }
  DeviceTable(DeviceTable&& other) noexcept { swap(other); }
  DeviceTable& operator=(DeviceTable&& other) noexcept {
    swap(other);
    return *this;
  }
  char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void swap(DeviceTable& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  char* data_ = nullptr;
  size_t size_ = 0;
};

// Page-locked buffers that uploads go through, in turn. A buffer is written again only after the
// copy that reads it is done, so a copy is never waited for unless all of them are under way.
class PinnedRing {
 public:
  ~PinnedRing() {
    const OutsideCapture outside;
    for (Slot& slot : slots_) {
      cudaFreeHost(slot.data);
      if (slot.copied != nullptr) cudaEventDestroy(slot.copied);
    }
  }
  void upload(const char* from, char* to, size_t size, cudaStream_t stream) {
    Slot& slot = slots_[next_++ % N_SLOTS];
    if (slot.copied == nullptr) {
      check(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming), "cudaEventCreate");
    } else {
      check(cudaEventSynchronize(slot.copied), "cudaEventSynchronize");
    }
    if (slot.size < size) {
      cudaFreeHost(slot.data);
      slot.data = nullptr;
      check(cudaMallocHost(reinterpret_cast<void**>(&slot.data), size), "cudaMallocHost");
      slot.size = size;
    }
    std::memcpy(slot.data, from, size);
    check(cudaMemcpyAsync(to, slot.data, size, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
    check(cudaEventRecord(slot.copied, stream), "cudaEventRecord");
  }

 private:
  static constexpr int N_SLOTS = 4;
  struct Slot {
    char* data = nullptr;
    size_t size = 0;
    cudaEvent_t copied = nullptr;
  };
  Slot slots_[N_SLOTS];
  size_t next_ = 0;
};

}  // namespace cuda
}  // namespace fused_warmup
