// Launches the kernels of one variant. cudart is linked in; the context is torch's own.
#include <cuda_runtime_api.h>

#include "cuda/sgd.h"

using namespace fused_warmup;

extern "C" {

// Blocks that the current device holds at a time, or minus CUDA's error.
int resident_blocks(int dtypes) {
  int device = 0, multiprocessors = 0, blocks = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error == cudaSuccess) {
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &blocks, cuda::kernel_for(static_cast<cuda::DTypes>(dtypes)), cuda::BLOCK_SIZE, 0);
  }
  return error == cudaSuccess ? multiprocessors * blocks : -static_cast<int>(error);
}

// 0 or CUDA's error.
int launch(int dtypes, int n_blocks, int shared_bytes, void* args, void* stream) {
  void* by_value[] = {args};
  return cudaLaunchKernel(cuda::kernel_for(static_cast<cuda::DTypes>(dtypes)),
                          dim3(static_cast<unsigned>(n_blocks)), dim3(cuda::BLOCK_SIZE), by_value,
                          static_cast<size_t>(shared_bytes), static_cast<cudaStream_t>(stream));
}
}
