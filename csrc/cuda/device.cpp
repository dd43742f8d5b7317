#include "cuda/device.h"

#include <cuda_runtime_api.h>

#include "cuda/resources.h"
#include "cuda/sgd.h"

namespace fused_warmup {
namespace cuda {
namespace {

// As CUDA numbers its versions: 12040 is 12.4.
std::string version_of(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

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
  ignore(error);
  if (error == cudaSuccess) return "no CUDA device";
  if (error != cudaErrorInsufficientDriver) return cudaGetErrorString(error);
  int driver = 0;
  ignore(cudaDriverGetVersion(&driver));
  // Without any driver the runtime calls its version, 0, insufficient.
  if (driver == 0) return "no CUDA driver";
  return "the CUDA driver serves CUDA " + version_of(driver) + ", this build needs CUDA " +
         std::to_string(CUDART_VERSION / 1000) +
         ": update the driver, or build with an older CUDA toolkit";
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

void load_kernel(const void* kernel) {
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
}

std::array<int, N_KERNELS> resident_blocks(int device, const void* (*kernel_of)(DTypes)) {
  const int multiprocessors = attribute_of(device, cudaDevAttrMultiProcessorCount);
  std::array<int, N_KERNELS> found{};
  for (int i = 0; i < N_KERNELS; ++i) {
    const void* const kernel = kernel_of(static_cast<DTypes>(i));
    load_kernel(kernel);
    int blocks = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, BLOCK_SIZE, 0),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    found[i] = multiprocessors * blocks;
  }
  return found;
}

}  // namespace cuda
}  // namespace fused_warmup
