#include "fake_cudart.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "cuda/sgd.h"
#include "emulation/blocks.h"

using Work = std::function<void()>;

struct CUuserObject_st {
  int references;
  cudaHostFn_t destroy;
  void* argument;
};

namespace fake {

// What graphs and replays under way hold.
struct Held {
  std::vector<cudaUserObject_t> objects;
  ~Held() {
    for (cudaUserObject_t object : objects) release(object);
  }
  static void release(cudaUserObject_t object) {
    if (--object->references > 0) return;
    object->destroy(object->argument);
    delete object;
  }
};

struct Graph {
  std::vector<Work> nodes;
  std::shared_ptr<Held> held = std::make_shared<Held>();
};

}  // namespace fake

struct CUstream_st {
  int device;
  std::deque<Work> queue;
  fake::Graph* graph = nullptr;  // being captured
  bool is_invalid = false;
  cudaStreamCaptureMode mode{};
  int thread = 0;
};

struct CUevent_st {
  cudaStream_t stream = nullptr;
  std::shared_ptr<bool> done = std::make_shared<bool>(true);
  bool is_captured = false;
};

namespace fake {
namespace {

struct {
  bool armed = false;
  int64_t until_failure = 0;
  bool for_good = false;
  bool has_failed = false;
  std::string failed;  // the first
  std::set<std::string> struck;
  std::vector<std::string> log;
  std::vector<std::string> violations;
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
  std::map<char*, size_t> pinned;
  std::set<int> contexts;
  std::map<int, cudaStreamCaptureMode> modes;
  int driver_version = CUDART_VERSION;
  std::set<std::pair<int, const void*>> loaded;  // kernels, each with its device
  std::map<int, int> devices;                    // by thread
  int thread = 0;
  cudaError_t last_error = cudaSuccess;
} state;

cudaError_t fail(cudaError_t error) { return state.last_error = error; }

void violate(const std::string& what) { state.violations.push_back(what); }

bool is_pinned(const void* at) {
  const char* const address = static_cast<const char*>(at);
  const auto after = state.pinned.upper_bound(const_cast<char*>(address));
  if (after == state.pinned.begin()) return false;
  const auto found = std::prev(after);
  return address < found->first + found->second;
}

// Puts work behind the rest of a stream, or into the graph that is being captured.
cudaError_t put(const char* name, cudaStream_t stream, Work work) {
  if (stream->is_invalid) return fail(cudaErrorStreamCaptureInvalidated);
  if (stream->device != state.devices[state.thread]) {
    violate(std::string(name) + " with another device than the stream's current");
    return fail(cudaErrorInvalidResourceHandle);
  }
  if (stream->graph != nullptr) {
    stream->graph->nodes.push_back(std::move(work));
  } else {
    stream->queue.push_back(std::move(work));
  }
  return cudaSuccess;
}

}  // namespace

void fail_at(int64_t k, bool for_good) {
  state.until_failure = k;
  state.for_good = for_good;
  state.has_failed = false;
}
void heal() { state.until_failure = 0; }
const std::string& failed_call() { return state.failed; }
bool fault_struck() { return state.has_failed; }
void arm() { state.armed = true; }
void disarm() { state.armed = false; }
const std::vector<std::string>& log() { return state.log; }
void clear_log() { state.log.clear(); }

bool counts_and_fails(const char* name) {
  if (!state.armed) return false;
  state.log.push_back(name);
  if (state.until_failure == 0) return false;
  if (state.until_failure > 1) {
    --state.until_failure;
    return false;
  }
  if (!state.has_failed) state.failed = name;
  state.has_failed = true;
  state.struck.insert(name);
  if (!state.for_good) state.until_failure = 0;
  return true;
}

const std::set<std::string>& struck_calls() { return state.struck; }

void set_driver_version(int version) { state.driver_version = version; }

cudaStream_t make_stream(int device) {
  const cudaStream_t stream = new CUstream_st{device, {}};
  state.streams.insert(stream);
  state.contexts.insert(device);
  return stream;
}
void run(cudaStream_t stream) {
  while (!stream->queue.empty()) {
    const Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    work();
  }
}
void run_all() {
  for (cudaStream_t stream : state.streams) run(stream);
}
void destroy_stream(cudaStream_t stream) {
  run(stream);
  state.streams.erase(stream);
  delete stream;
}
void enqueue(cudaStream_t stream, Work work) { stream->queue.push_back(std::move(work)); }
bool has_context(int device) { return state.contexts.count(device) > 0; }
void as_thread(int thread) { state.thread = thread; }
void make_current(int device) { state.devices[state.thread] = device; }

int current_device() { return state.devices[state.thread]; }

void begin_capture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  stream->graph = new Graph;
  stream->mode = mode;
  stream->thread = state.thread;
}
Graph* end_capture(cudaStream_t stream) {
  std::unique_ptr<Graph> graph(std::exchange(stream->graph, nullptr));
  return std::exchange(stream->is_invalid, false) ? nullptr : graph.release();
}
void replay(const Graph* graph, cudaStream_t stream) {
  const auto held = graph->held;
  stream->queue.push_back([nodes = graph->nodes, held] {
    for (const Work& node : nodes) node();
  });
}
void destroy_graph(Graph* graph) { delete graph; }
size_t n_nodes(const Graph* graph) { return graph->nodes.size(); }
bool is_capturing(cudaStream_t stream) { return stream->graph != nullptr; }

cudaError_t unsafe(const char* name) {
  const auto mode = state.modes[state.thread];
  if (mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  bool forbidden = false;
  for (cudaStream_t stream : state.streams) {
    if (stream->graph == nullptr) continue;
    const bool own = stream->thread == state.thread && stream->mode != cudaStreamCaptureModeRelaxed;
    const bool other = stream->thread != state.thread && mode == cudaStreamCaptureModeGlobal &&
                       stream->mode == cudaStreamCaptureModeGlobal;
    if (!own && !other) continue;
    stream->is_invalid = forbidden = true;
  }
  if (!forbidden) return cudaSuccess;
  violate(std::string(name) + " while a stream is captured");
  return fail(cudaErrorStreamCaptureUnsupported);
}

std::vector<std::string>& violations() { return state.violations; }
std::string left_over() {
  std::string words;
  if (!state.pinned.empty()) words += std::to_string(state.pinned.size()) + " page-locked buffers ";
  if (!state.events.empty()) words += std::to_string(state.events.size()) + " events ";
  return words;
}
void free_pinned() {
  for (const auto& each : state.pinned) std::free(each.first);
  state.pinned.clear();
}
cudaError_t last_error() { return state.last_error; }

}  // namespace fake

using fake::state;

namespace {

const char kernels[fused_warmup::cuda::N_KERNELS] = {};
const char lars_kernels[fused_warmup::cuda::N_KERNELS] = {};
const char sum_squares_kernel = 0;

bool is_in(const char (&all)[fused_warmup::cuda::N_KERNELS], const void* kernel) {
  const std::less_equal<const void*> before;
  return before(all, kernel) && !before(std::end(all), kernel);
}

// Kernels are loaded at their first use, which counts as potentially unsafe.
cudaError_t load(const char* name, int device, const void* kernel) {
  if (state.loaded.count({device, kernel}) > 0) return cudaSuccess;
  if (const cudaError_t refused = fake::unsafe(name)) return refused;
  state.loaded.insert({device, kernel});
  return cudaSuccess;
}

// The driver's; not a call of the runtime.
int primary_context_state(int device, unsigned* flags, int* active) {
  *flags = 0;
  *active = fake::has_context(device);
  return 0;
}

}  // namespace

namespace fused_warmup {
namespace cuda {
const void* kernel_for(DTypes dtypes) { return &kernels[static_cast<int>(dtypes)]; }
const void* lars_kernel_for(DTypes dtypes) { return &lars_kernels[static_cast<int>(dtypes)]; }
const void* norms_kernel() { return &sum_squares_kernel; }
}  // namespace cuda
}  // namespace fused_warmup

#define COUNTED(name, error) \
  if (fake::counts_and_fails(#name)) return fake::fail(error)
#define UNSAFE(name) \
  if (const cudaError_t refused = fake::unsafe(#name)) return refused

extern "C" {

// Never fails: what went before it did.
cudaError_t cudaGetLastError() { return std::exchange(state.last_error, cudaSuccess); }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorOther";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "something went wrong";
}

cudaError_t cudaGetDeviceCount(int* count) {
  COUNTED(cudaGetDeviceCount, cudaErrorInsufficientDriver);
  *count = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  COUNTED(cudaDriverGetVersion, cudaErrorUnknown);
  *version = state.driver_version;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  COUNTED(cudaGetDevice, cudaErrorUnknown);
  *device = state.devices[state.thread];
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  COUNTED(cudaSetDevice, cudaErrorUnknown);
  state.devices[state.thread] = device;
  state.contexts.insert(device);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  COUNTED(cudaDeviceGetAttribute, cudaErrorUnknown);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = 3;
      break;
    default:  // bytes of shared memory
      *value = 227 * 1024;
  }
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
  COUNTED(cudaOccupancyMaxActiveBlocksPerMultiprocessor, cudaErrorUnknown);
  *blocks = 2;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) {
  COUNTED(cudaFuncSetAttribute, cudaErrorUnknown);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void* kernel) {
  COUNTED(cudaFuncGetAttributes, cudaErrorNoKernelImageForDevice);
  return load("cudaFuncGetAttributes", state.devices[state.thread], kernel);
}

#if CUDART_VERSION >= 12050
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  COUNTED(cudaGetDriverEntryPointByVersion, cudaErrorUnknown);
#else
cudaError_t cudaGetDriverEntryPoint(const char*, void** function, unsigned long long,
                                    cudaDriverEntryPointQueryResult* result) {
  COUNTED(cudaGetDriverEntryPoint, cudaErrorUnknown);
#endif
  *function = reinterpret_cast<void*>(primary_context_state);
  *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

// -- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  COUNTED(cudaStreamCreateWithFlags, cudaErrorUnknown);
  UNSAFE(cudaStreamCreateWithFlags);
  *stream = fake::make_stream(state.devices[state.thread]);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  COUNTED(cudaStreamSynchronize, cudaErrorUnknown);
  if (fake::is_capturing(stream)) {
    fake::violate("cudaStreamSynchronize of a stream that is captured");
    stream->is_invalid = true;
    return fake::fail(cudaErrorStreamCaptureUnsupported);
  }
  UNSAFE(cudaStreamSynchronize);
  fake::run(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  COUNTED(cudaStreamIsCapturing, cudaErrorUnknown);
  *status = stream->is_invalid ? cudaStreamCaptureStatusInvalidated
            : stream->graph    ? cudaStreamCaptureStatusActive
                               : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
#if CUDART_VERSION >= 13000
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                     unsigned long long*, cudaGraph_t* graph,
                                     const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
#else
cudaError_t cudaStreamGetCaptureInfo_v2(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                        unsigned long long*, cudaGraph_t* graph,
                                        const cudaGraphNode_t**, size_t*) {
#endif
  COUNTED(cudaStreamGetCaptureInfo, cudaErrorUnknown);
  *status = stream->graph ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  *graph = reinterpret_cast<cudaGraph_t>(stream->graph);
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  COUNTED(cudaThreadExchangeStreamCaptureMode, cudaErrorUnknown);
  std::swap(*mode, state.modes[state.thread]);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  COUNTED(cudaEventCreateWithFlags, cudaErrorUnknown);
  state.events.insert(*event = new CUevent_st);
  return cudaSuccess;
}
// What frees has done so even where it reports an error, which is one of earlier work.
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  state.events.erase(event);
  delete event;
  COUNTED(cudaEventDestroy, cudaErrorUnknown);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  COUNTED(cudaEventRecord, cudaErrorUnknown);
  event->stream = stream;
  event->is_captured = fake::is_capturing(stream);
  event->done = std::make_shared<bool>(false);
  return fake::put("cudaEventRecord", stream, [done = event->done] { *done = true; });
}
static cudaError_t check_event(cudaEvent_t event, const char* name) {
  if (!event->is_captured) return fake::unsafe(name);
  fake::violate(std::string(name) + " of an event that was recorded in a capture");
  return fake::fail(cudaErrorCapturedEvent);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  COUNTED(cudaEventQuery, cudaErrorUnknown);
  if (const cudaError_t refused = check_event(event, "cudaEventQuery")) return refused;
  return *event->done ? cudaSuccess : fake::fail(cudaErrorNotReady);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  COUNTED(cudaEventSynchronize, cudaErrorUnknown);
  if (const cudaError_t refused = check_event(event, "cudaEventSynchronize")) return refused;
  const auto done = event->done;
  while (!*done) {
    const Work work = std::move(event->stream->queue.front());
    event->stream->queue.pop_front();
    work();
  }
  return cudaSuccess;
}

// -- memory

cudaError_t cudaMallocHost(void** data, size_t size) {
  COUNTED(cudaMallocHost, cudaErrorMemoryAllocation);
  UNSAFE(cudaMallocHost);
  *data = std::malloc(size);
  std::memset(*data, 0xA5, size);
  state.pinned[static_cast<char*>(*data)] = size;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  UNSAFE(cudaFreeHost);
  state.pinned.erase(static_cast<char*>(data));
  std::free(data);
  COUNTED(cudaFreeHost, cudaErrorUnknown);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind,
                            cudaStream_t stream) {
  COUNTED(cudaMemcpyAsync, cudaErrorUnknown);
  if (fake::is_capturing(stream)) fake::violate("a copy is captured");
  if (fake::is_pinned(from)) {
    return fake::put("cudaMemcpyAsync", stream, [=] { std::memcpy(to, from, size); });
  }
  const char* const bytes = static_cast<const char*>(from);
  return fake::put("cudaMemcpyAsync", stream, [to, copy = std::vector<char>(bytes, bytes + size)] {
    std::memcpy(to, copy.data(), copy.size());
  });
}
cudaError_t cudaMemsetAsync(void* at, int value, size_t size, cudaStream_t stream) {
  COUNTED(cudaMemsetAsync, cudaErrorUnknown);
  if (fake::is_capturing(stream)) fake::violate("a memset is captured");
  return fake::put("cudaMemsetAsync", stream, [=] { std::memset(at, value, size); });
}

// -- kernels and graphs

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3, void** arguments, size_t,
                             cudaStream_t stream) {
  COUNTED(cudaLaunchKernel, cudaErrorUnknown);
  if (const cudaError_t refused = load("cudaLaunchKernel", stream->device, kernel)) return refused;
  using namespace fused_warmup::cuda;
  std::vector<int> order(grid.x);
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  return fake::put(
      "cudaLaunchKernel", stream, [=, args = *static_cast<const LarsArgs*>(arguments[0])] {
        const char* const at = static_cast<const char*>(kernel);
        if (kernel == &sum_squares_kernel) return run_norms(args, order);
        if (is_in(lars_kernels, kernel)) {
          return run_blocks(args, static_cast<DTypes>(at - lars_kernels), order);
        }
        run_blocks(static_cast<const LaunchArgs&>(args), static_cast<DTypes>(at - kernels), order);
      });
}
cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void* argument, cudaHostFn_t destroy,
                                 unsigned references, unsigned) {
  COUNTED(cudaUserObjectCreate, cudaErrorUnknown);
  *object = new CUuserObject_st{static_cast<int>(references), destroy, argument};
  return cudaSuccess;
}
cudaError_t cudaUserObjectRelease(cudaUserObject_t object, unsigned) {
  fake::Held::release(object);
  COUNTED(cudaUserObjectRelease, cudaErrorUnknown);
  return cudaSuccess;
}
cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned,
                                      unsigned) {
  COUNTED(cudaGraphRetainUserObject, cudaErrorUnknown);
  if (graph == nullptr) return fake::fail(cudaErrorInvalidValue);
  reinterpret_cast<fake::Graph*>(graph)->held->objects.push_back(object);
  return cudaSuccess;
}

}  // extern "C"
