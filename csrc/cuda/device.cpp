#include "cuda/device.h"

#include <cuda_runtime_api.h>

#include "cuda/resources.h"
#include "cuda/sgd.h"

namespace fused_warmup {
namespace cuda {
namespace {

int attribute_of(int device, cudaDeviceAttr attribute) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

std::string unavailable_reason() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return "";
  cudaGetLastError();
  int driver = 0;
  // Without any driver the runtime calls its version, 0, insufficient.
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) return "no CUDA driver";
  return error == cudaSuccess ? "no CUDA device" : cudaGetErrorString(error);
}

std::string device_obstacle(int device) try {
  const DeviceGuard guard(device);
  const OutsideCapture outside;
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel_for(DTypes::FLOAT32));
  ignore(error);
  if (error == cudaSuccess) return "";
  const int major = attribute_of(device, cudaDevAttrComputeCapabilityMajor);
  const int minor = attribute_of(device, cudaDevAttrComputeCapabilityMinor);
  return "it has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
         ", where the CUDA kernel does not load (" + cudaGetErrorString(error) + ")";
} catch (const std::exception& error) {
  return error.what();
}

void check_groups(int device, size_t n_groups) {
  const int shared = attribute_of(device, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const size_t most = static_cast<size_t>(shared) / sizeof(Rates);
  if (n_groups <= most) return;
  throw std::invalid_argument(
      "an optimizer of " + std::to_string(n_groups) + " parameter groups is too much for " +
      "backend='cuda', which holds the rates of " + std::to_string(most) + " groups on this " +
      "device: merge groups of equal options, or pass backend='triton'");
}

std::array<int, N_KERNELS> resident_blocks(int device, const void* (*kernel_of)(DTypes)) {
  const int multiprocessors = attribute_of(device, cudaDevAttrMultiProcessorCount);
  std::array<int, N_KERNELS> found{};
  for (int i = 0; i < N_KERNELS; ++i) {
    int blocks = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel_of(static_cast<DTypes>(i)),
                                                        BLOCK_SIZE, 0),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    found[i] = multiprocessors * blocks;
  }
  return found;
}

}  // namespace cuda
}  // namespace fused_warmup
