// What the CUDA launcher enters for the length of a scope, and how it reports errors. For the files
// of cuda/ alone.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "cuda/memory.h"

namespace fused_warmup {
namespace cuda {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // what was reported here must not be met again by somebody else
  const std::string words =
      std::string(what) + " failed: " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error);
  if (error == cudaErrorMemoryAllocation) throw OutOfMemory(words);
  throw std::runtime_error(words);
}

// For what must not throw, at the end of scopes; what is out of order fails the next call.
inline void ignore(cudaError_t error) {
  if (error != cudaSuccess) cudaGetLastError();
}

// Whether this process uses a device already. The runtime has no such question, its driver has.
inline bool has_context(int device) {
  using GetState = int (*)(int device, unsigned* flags, int* active);
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &found,
                                                             12000, cudaEnableDefault, &result);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuDevicePrimaryCtxGetState", &found, cudaEnableDefault, &result);
#endif
  ignore(error);
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) return false;
  unsigned flags = 0;
  int active = 0;
  return reinterpret_cast<GetState>(found)(device, &flags, &active) == 0 && active != 0;
}

// The calling thread's current device, put back at the end of the scope if it was another one. A
// thread that has chosen none is said to be on device 0; going back there would take hundreds of
// megabytes of it for a context that nobody has asked for.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) : device_(device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != device_) check(cudaSetDevice(device_), "cudaSetDevice");
  }
  ~DeviceGuard() {
    if (before_ != device_ && has_context(before_)) ignore(cudaSetDevice(before_));
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int device_;
  int before_ = 0;
};

// While a stream is captured, by this thread or another, calls such as cudaMalloc, cudaFree and
// cudaEventQuery are refused and spoil the capture, unless the thread says that it knows what it
// does: what runs in this scope is not part of a graph.
class OutsideCapture {
 public:
  OutsideCapture() {
    check(cudaThreadExchangeStreamCaptureMode(&mode_), "cudaThreadExchangeStreamCaptureMode");
  }
  ~OutsideCapture() { ignore(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  OutsideCapture(const OutsideCapture&) = delete;
  OutsideCapture& operator=(const OutsideCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace cuda
}  // namespace fused_warmup
