#include "cuda/launcher.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "cuda/captured.h"
#include "cuda/device.h"
#include "cuda/lars.h"
#include "cuda/resources.h"
#include "cuda/sgd.h"

namespace fused_warmup {
namespace cuda {
namespace {

// Dynamic shared memory, in bytes, that a kernel may take unless it asks for more.
constexpr size_t SHARED_WITHOUT_ASKING = 48 * 1024;

// A block of device memory begins with the ticket of its launches, then come the tables.
constexpr size_t TABLES_AT = 16;

// Tables kept for each stream: gradients may alternate between two places, and no step of such a
// run need copy anything.
constexpr size_t MAX_TABLES = 2;

constexpr uint64_t NEVER = ~uint64_t{0};

// Streams whose tables are kept; a step on one more forgets those of the stream used least lately.
constexpr size_t MAX_STREAMS = 4;

bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  if (status == cudaStreamCaptureStatusInvalidated) {
    throw std::runtime_error(
        "an earlier error has invalidated the capture of this stream: end it and capture anew");
  }
  return status != cudaStreamCaptureStatusNone;
}

}  // namespace

struct Launcher::Impl {
  struct DeviceTables {
    Tables tables;
    Block block;
    uint64_t generation = NEVER;
    bool is_valid = false;  // whether the device has them as they are here
    uint64_t used = 0;      // the step that used them last
  };

  struct Stream {
    cudaStream_t stream;
    std::vector<DeviceTables> tables;
    bool wants_more = false;  // no table had what the last step needed
    uint64_t used = 0;
  };

  const int device;
  const std::shared_ptr<Memory> memory;
  // Whether launches are LARS's; and the kernels that update.
  const bool lars;
  const void* (*const update_kernel)(DTypes);
  std::array<int, N_KERNELS> blocks_of{};  // by kernel, those that the device runs at once
  size_t capacity = 0;                     // bytes that any tables may take
  std::vector<Stream> streams;
  Block spare;  // for the next captured launch
  std::unique_ptr<Remains> remains = std::make_unique<Remains>();

  // The step that is being made: where, and over which tables.
  uint64_t step = 0;
  cudaStream_t stream = nullptr;
  bool is_capturing = false;
  DeviceTables* staged = nullptr;
  Tables staged_for_capture;

  Impl(int device_index, size_t n_entries, const std::vector<Group>& groups,
       const std::vector<Schedule>& schedules, std::shared_ptr<Memory> device_memory, bool is_lars)
      : device(device_index),
        memory(std::move(device_memory)),
        lars(is_lars),
        update_kernel(is_lars ? lars_kernel_for : kernel_for) {
    const DeviceGuard guard(device);
    const OutsideCapture outside;
    check_groups(device, groups.size());
    blocks_of = resident_blocks(device, update_kernel);
    if (lars) load_kernel(norms_kernel());
    // No table is longer than that of all tensors, were they so large that they took every block.
    TensorEntry large{};
    large.n_elements = std::numeric_limits<int32_t>::max();
    Tables longest;
    longest.build(std::vector<TensorEntry>(n_entries, large), std::vector<Extras>(n_entries),
                  groups, schedules, *std::max_element(blocks_of.begin(), blocks_of.end()));
    capacity = TABLES_AT + longest.size();
  }

  Stream& of_stream() {
    for (Stream& each : streams) {
      if (each.stream == stream) return each;
    }
    if (streams.size() == MAX_STREAMS) {
      streams.erase(
          std::min_element(streams.begin(), streams.end(),
                           [](const Stream& a, const Stream& b) { return a.used < b.used; }));
    }
    streams.push_back({stream, {}});
    return streams.back();
  }

  void get_blocks() {
    if (is_capturing) {
      const OutsideCapture outside;
      remains->sweep();
      if (!spare) spare = Block(memory, capacity, side_stream(device));
      return;
    }
    Stream& own = of_stream();
    own.used = ++step;
    if (own.tables.empty() || (own.wants_more && own.tables.size() < MAX_TABLES)) {
      const OutsideCapture outside;
      DeviceTables another;
      another.block = Block(memory, capacity, stream);
      own.tables.push_back(std::move(another));
    }
    own.wants_more = false;
  }

  bool get_buffer() {
    if (remains->staging.has_room(capacity)) return true;
    const OutsideCapture outside;
    return remains->staging.make_room(capacity);
  }

  void build(Tables& tables, const StepTables& now, const Block& block) const {
    // Twice, because the number of blocks depends on the kernel, and the kernel on the tensors.
    tables.build(now.entries, now.extras, now.groups, now.schedules, 1);
    const int blocks = blocks_of[static_cast<int>(tables.dtypes())];
    tables.build(now.entries, now.extras, now.groups, now.schedules, blocks);
    if (TABLES_AT + tables.size() > capacity) {
      throw std::logic_error("tables of a launch are longer than foreseen: please report this");
    }
    tables.relocate(block.data() + TABLES_AT);
  }

  void stage(const StepTables& now) {
    Stream& own = of_stream();
    for (DeviceTables& each : own.tables) {
      if (!each.is_valid || !each.tables.holds(now.entries, now.extras, now.groups)) continue;
      staged = &each;
      each.used = step;
      return;
    }
    own.wants_more = true;
    staged = &*std::min_element(
        own.tables.begin(), own.tables.end(),
        [](const DeviceTables& a, const DeviceTables& b) { return a.used < b.used; });
    staged->used = step;
    upload(*staged, now);
  }

  void upload(DeviceTables& own, const StepTables& now) {
    const DTypes before = own.tables.dtypes();
    bool whole = !own.is_valid || own.generation != now.generation;
    own.is_valid = false;  // until all of it is on its way
    const DeviceGuard guard(device);
    if (own.generation == now.generation) own.tables.update(now.entries, now.extras, now.groups);
    if (own.generation != now.generation || own.tables.dtypes() != before) {
      own.generation = NEVER;
      build(own.tables, now, own.block);
      own.generation = now.generation;
      whole = true;
    }
    char* const base = own.block.data();
    if (whole) check(cudaMemsetAsync(base, 0, TABLES_AT, stream), "cudaMemsetAsync");
    const size_t size = whole ? own.tables.size() : own.tables.changing_size();
    remains->staging.upload(own.tables.data(), base + TABLES_AT, size, stream);
    own.is_valid = true;
  }

  // A captured copy would read its host buffer again at each replay, so none is captured: the
  // graph's launch gets tables of its own, filled here, outside the graph.
  void stage_for_capture(const StepTables& now) {
    build(staged_for_capture, now, spare);
    const OutsideCapture outside;
    const cudaStream_t side = side_stream(device);
    char* const base = spare.data();
    const cudaError_t cleared = cudaMemsetAsync(base, 0, TABLES_AT, side);
    const cudaError_t copied =
        cudaMemcpyAsync(base + TABLES_AT, staged_for_capture.data(), staged_for_capture.size(),
                        cudaMemcpyHostToDevice, side);
    check(cudaStreamSynchronize(side), "cudaStreamSynchronize");
    check(cleared, "cudaMemsetAsync");
    check(copied, "cudaMemcpyAsync");
  }

  // A kernel of SGD takes the LaunchArgs that a LarsArgs begins with.
  void launch_kernel(const void* kernel, size_t shared, const Tables& tables, const Block& block,
                     const StepScalars& scalars, const Norms& norms) {
    char* const base = block.data();
    LarsArgs args{tables.args(base + TABLES_AT, scalars, reinterpret_cast<uint32_t*>(base)), norms};
    if (shared > SHARED_WITHOUT_ASKING) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared)),
            "cudaFuncSetAttribute");
    }
    void* by_value[] = {&args};
    check(cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(tables.n_blocks())), dim3(BLOCK_SIZE),
                           by_value, shared, stream),
          "the launch of a kernel");
  }

  void launch_norms(const Tables& tables, const Block& block, const StepScalars& scalars,
                    const Norms& norms) {
    launch_kernel(norms_kernel(), NORMS_SHARED_BYTES, tables, block, scalars, norms);
  }

  void launch_all(const Tables& tables, const Block& block, const StepScalars& scalars,
                  const Norms& norms, bool is_measured) {
    if (lars && !is_measured) launch_norms(tables, block, scalars, norms);
    launch_kernel(update_kernel(tables.dtypes()), tables.shared_bytes(), tables, block, scalars,
                  norms);
  }

  void launch_captured(const StepScalars& scalars, const Norms& norms, bool is_measured,
                       std::shared_ptr<void> held) {
    std::vector<CapturedLaunch>& captured = remains->captured;
    captured.reserve(captured.size() + 1);
    Gone gone = tie_to_graph(stream);
    captured.push_back(
        {std::move(staged_for_capture), std::move(spare), std::move(gone), {std::move(held)}});
    const CapturedLaunch& own = captured.back();
    launch_all(own.tables, own.block, scalars, norms, is_measured);
  }
};

Launcher::Launcher(int device, size_t n_entries, const std::vector<Group>& groups,
                   const std::vector<Schedule>& schedules, std::shared_ptr<Memory> memory,
                   bool lars)
    : impl_(std::make_unique<Impl>(device, n_entries, groups, schedules, std::move(memory), lars)) {
}

Launcher::~Launcher() { bury(std::move(impl_->remains)); }

bool Launcher::prepare(void* stream) {
  const DeviceGuard guard(impl_->device);
  impl_->stream = static_cast<cudaStream_t>(stream);
  impl_->is_capturing = is_captured(impl_->stream);
  impl_->get_blocks();
  return impl_->is_capturing || impl_->get_buffer();
}

void Launcher::wait() {
  const OutsideCapture outside;
  impl_->remains->staging.wait();
}

void Launcher::stage(const StepTables& now) {
  if (impl_->is_capturing) {
    const DeviceGuard guard(impl_->device);
    impl_->stage_for_capture(now);
  } else {
    impl_->stage(now);
  }
}

bool Launcher::is_capturing() const { return impl_->is_capturing; }

void Launcher::launch_norms(const StepScalars& scalars, const Norms& norms) {
  const DeviceGuard guard(impl_->device);
  const bool captured = impl_->is_capturing;  // the launch that follows keeps tables and block
  impl_->launch_norms(captured ? impl_->staged_for_capture : impl_->staged->tables,
                      captured ? impl_->spare : impl_->staged->block, scalars, norms);
}

void Launcher::launch(const StepScalars& scalars, const Norms& norms, bool is_measured,
                      std::shared_ptr<void> held) {
  const DeviceGuard guard(impl_->device);
  if (impl_->is_capturing) {
    return impl_->launch_captured(scalars, norms, is_measured, std::move(held));
  }
  impl_->launch_all(impl_->staged->tables, impl_->staged->block, scalars, norms, is_measured);
}

size_t Launcher::n_captured() const {
  const auto& captured = impl_->remains->captured;
  return static_cast<size_t>(
      std::count_if(captured.begin(), captured.end(),
                    [](const CapturedLaunch& each) { return !each.gone->load(); }));
}

void Launcher::update_captured(const std::vector<Group>& groups, void* stream,
                               const std::shared_ptr<void>& held) {
  const DeviceGuard guard(impl_->device);
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  if (is_captured(cuda_stream)) {
    throw std::runtime_error(
        "update_captured() was called on a stream that is being captured: call it between replays");
  }
  const OutsideCapture outside;
  for (CapturedLaunch& each : impl_->remains->captured) {
    if (each.gone->load()) continue;
    if (!each.tables.update_groups(groups) && !each.is_stale) continue;
    each.is_stale = true;
    each.held.push_back(held);
    if (!impl_->get_buffer()) {
      impl_->remains->staging.wait();
      impl_->get_buffer();
    }
    impl_->remains->staging.upload(each.tables.data(), each.block.data() + TABLES_AT,
                                   each.tables.changing_size(), cuda_stream);
    each.is_stale = false;
    each.held.erase(each.held.begin() + 1, each.held.end() - 1);  // what earlier updates brought
  }
}

}  // namespace cuda
}  // namespace fused_warmup
