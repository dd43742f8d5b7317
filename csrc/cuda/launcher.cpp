#include "cuda/launcher.h"

#include <cuda_runtime_api.h>

#include <stdexcept>

#include "cuda/resources.h"
#include "cuda/sgd.h"

namespace fused_warmup {
namespace cuda {
namespace {

// Dynamic shared memory, in bytes, that a kernel may take unless it asks for more.
constexpr size_t SHARED_WITHOUT_ASKING = 48 * 1024;

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

struct Launcher::Impl {
  struct Captured {
    Tables tables;
    DeviceTable device;
  };

  int device;
  int resident_blocks[4] = {};  // of each kernel, in the order of DTypes
  Tables tables;
  DeviceTable table;
  PinnedRing ring;
  uint32_t* ticket = nullptr;
  uint64_t built = ~uint64_t{0};
  cudaStream_t last_stream = nullptr;
  bool launched = false;
  std::vector<Captured> captured;

  Impl(int device_index, size_t n_groups) : device(device_index) {
    const DeviceGuard guard(device);
    const OutsideCapture outside;
    int shared = 0;
    check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          "cudaDeviceGetAttribute");
    const size_t most = static_cast<size_t>(shared) / sizeof(Rates);
    if (n_groups > most) {
      throw std::invalid_argument(
          "an optimizer of " + std::to_string(n_groups) + " parameter groups is too much for " +
          "backend='cuda', which holds the rates of " + std::to_string(most) + " groups on this " +
          "device: merge groups of equal options, or pass backend='triton'");
    }
    int multiprocessors = 0;
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
          "cudaDeviceGetAttribute");
    for (int i = 0; i < 4; ++i) {
      int blocks = 0;
      check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                &blocks, kernel_for(static_cast<DTypes>(i)), BLOCK_SIZE, 0),
            "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
      resident_blocks[i] = multiprocessors * blocks;
    }
    check(cudaMalloc(reinterpret_cast<void**>(&ticket), sizeof(uint32_t)), "cudaMalloc");
    run_aside(
        [this](cudaStream_t side) { return cudaMemsetAsync(ticket, 0, sizeof(uint32_t), side); });
  }
  ~Impl() {
    const OutsideCapture outside;
    cudaFree(ticket);
  }

  // The tables of the step, brought up to date. Whether the device's copy is stale in its changing
  // part; `whole` is set where all of it is.
  bool refresh(const std::vector<TensorEntry>& entries, const std::vector<Group>& groups,
               const std::vector<Schedule>& schedules, uint64_t generation, bool* whole) {
    const DTypes before = tables.dtypes();
    if (built == generation) {
      const bool stale = tables.update(entries, groups);
      if (tables.dtypes() == before) return stale;
    }
    // Twice, because the number of blocks depends on the kernel, and the kernel on the tensors.
    tables.build(entries, groups, schedules, 1);
    tables.build(entries, groups, schedules, resident_blocks[static_cast<int>(tables.dtypes())]);
    built = generation;
    return *whole = true;
  }

  void launch_kernel(const Tables& of, char* base, const StepScalars& step, cudaStream_t stream) {
    LaunchArgs args = of.args(base, step, ticket);
    const size_t shared = of.shared_bytes();
    const void* const kernel = kernel_for(of.dtypes());
    if (shared > SHARED_WITHOUT_ASKING) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared)),
            "cudaFuncSetAttribute");
    }
    void* by_value[] = {&args};
    check(cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(of.n_blocks())), dim3(BLOCK_SIZE),
                           by_value, shared, stream),
          "the launch of sgd_kernel");
  }

  void launch_eagerly(bool stale, bool whole, const StepScalars& step, cudaStream_t stream) {
    if (launched && stream != last_stream && stale) {
      // The kernel before this one may still read the table on its own stream.
      check(cudaStreamSynchronize(last_stream), "cudaStreamSynchronize");
    }
    if (whole && table.size() < tables.size()) {
      if (launched) check(cudaStreamSynchronize(last_stream), "cudaStreamSynchronize");
      table = DeviceTable(tables.size() * 2);
    }
    if (whole) tables.relocate(table.data());
    if (stale) {
      const size_t size = whole ? tables.size() : tables.changing_size();
      ring.upload(tables.data(), table.data(), size, stream);
    }
    launch_kernel(tables, table.data(), step, stream);
    last_stream = stream;
    launched = true;
  }

  // A captured copy would read its host buffer again at each replay, so none is captured: the
  // graph's launch gets a table of its own, filled here, outside the graph.
  void launch_captured(const StepScalars& step, cudaStream_t stream) {
    Captured own{tables, {}};
    {
      const OutsideCapture outside;
      own.device = DeviceTable(own.tables.size());
      own.tables.relocate(own.device.data());
      run_aside([&own](cudaStream_t side) {
        return cudaMemcpyAsync(own.device.data(), own.tables.data(), own.tables.size(),
                               cudaMemcpyHostToDevice, side);
      });
    }
    launch_kernel(own.tables, own.device.data(), step, stream);
    captured.push_back(std::move(own));
  }
};

Launcher::Launcher(int device, size_t n_groups) : impl_(std::make_unique<Impl>(device, n_groups)) {}
Launcher::~Launcher() = default;

void Launcher::launch(const std::vector<TensorEntry>& entries, const std::vector<Group>& groups,
                      const std::vector<Schedule>& schedules, const StepScalars& step,
                      uint64_t generation, void* stream) {
  const DeviceGuard guard(impl_->device);
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(cuda_stream, &status), "cudaStreamIsCapturing");
  bool whole = false;
  const bool stale = impl_->refresh(entries, groups, schedules, generation, &whole);
  if (status == cudaStreamCaptureStatusNone) {
    impl_->launch_eagerly(stale, whole, step, cuda_stream);
  } else {
    impl_->launch_captured(step, cuda_stream);
    if (stale) impl_->built = ~uint64_t{0};  // the device's own table has missed this change
  }
}

size_t Launcher::n_captured() const { return impl_->captured.size(); }

void Launcher::update_captured(const std::vector<Group>& groups, void* stream) {
  const DeviceGuard guard(impl_->device);
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  for (Impl::Captured& each : impl_->captured) {
    if (!each.tables.update_groups(groups)) continue;
    impl_->ring.upload(each.tables.data(), each.device.data(), each.tables.changing_size(),
                       cuda_stream);
  }
}

}  // namespace cuda
}  // namespace fused_warmup
