#include "cuda/captured.h"

#include <algorithm>
#include <map>

#include "cuda/resources.h"

namespace fused_warmup {
namespace cuda {
namespace {

cudaError_t graph_of(cudaStream_t stream, cudaGraph_t* graph) {
  cudaStreamCaptureStatus status{};
#if CUDART_VERSION >= 13000
  return cudaStreamGetCaptureInfo(stream, &status, nullptr, graph);
#else
  return cudaStreamGetCaptureInfo_v2(stream, &status, nullptr, graph);
#endif
}

// On a thread of CUDA's own, where CUDA must not be called.
void set_flag(void* flag) {
  const std::unique_ptr<Gone> gone(static_cast<Gone*>(flag));
  (*gone)->store(true);
}

}  // namespace

Gone tie_to_graph(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  check(graph_of(stream, &graph), "cudaStreamGetCaptureInfo");
  const Gone gone = std::make_shared<std::atomic<bool>>(false);
  auto flag = std::make_unique<Gone>(gone);
  cudaUserObject_t object = nullptr;
  check(cudaUserObjectCreate(&object, flag.get(), set_flag, 1, cudaUserObjectNoDestructorSync),
        "cudaUserObjectCreate");
  flag.release();  // NOLINT: set_flag frees it
  const cudaError_t retained = cudaGraphRetainUserObject(graph, object, 1, cudaGraphUserObjectMove);
  if (retained != cudaSuccess) ignore(cudaUserObjectRelease(object, 1));
  check(retained, "cudaGraphRetainUserObject");
  return gone;
}

cudaStream_t side_stream(int device) {
  static auto* const streams = new std::map<int, cudaStream_t>;
  const auto found = streams->find(device);
  if (found != streams->end()) return found->second;
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return (*streams)[device] = stream;
}

void Remains::sweep() {
  const auto is_gone = [](const CapturedLaunch& each) { return each.gone->load(); };
  // A copy that update_captured() has enqueued may still write to tables.
  if (std::none_of(captured.begin(), captured.end(), is_gone) || !staging.is_idle()) return;
  captured.erase(std::remove_if(captured.begin(), captured.end(), is_gone), captured.end());
}

void bury(std::unique_ptr<Remains> remains) noexcept {
  // Not destroyed when the process ends: the driver may be gone by then.
  static auto* const graves = new std::vector<std::unique_ptr<Remains>>;
  try {
    graves->push_back(std::move(remains));
    const OutsideCapture outside;
    const auto is_free = [](const std::unique_ptr<Remains>& each) {
      each->sweep();
      return each->captured.empty() && each->staging.is_idle();
    };
    graves->erase(std::remove_if(graves->begin(), graves->end(), is_free), graves->end());
  } catch (const std::exception&) {  // CUDA is out of order: all stays
  }
}

}  // namespace cuda
}  // namespace fused_warmup
