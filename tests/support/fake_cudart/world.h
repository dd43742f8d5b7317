// One optimizer over the stand-in for CUDA, beside a twin that is updated element by element.
#pragma once

// The device has fused multiply-adds; here the C library's stand in for them.
#define FW_HAS_FMA
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>

#include "cuda/device.h"
#include "cuda/launcher.h"
#include "fake_cudart.h"

using namespace fused_warmup;

struct Failure : std::logic_error {
  using std::logic_error::logic_error;
};

inline void require(bool good, const std::string& what) {
  if (!good) throw Failure(what);
}

// An allocator that keeps what is freed for its stream alone, as PyTorch's does: later work of that
// stream may have it at once.
class FakeMemory : public cuda::Memory {
 public:
  void* allocate(size_t size, void* stream) override;
  void free(void* data) noexcept override;
  size_t n_live() const { return streams_.size(); }
  bool is_full = false;

 private:
  std::map<void*, cudaStream_t> streams_;
};

struct Tensor {
  std::vector<float> param, momentum_buffer;
};

class World {
 public:
  explicit World(size_t n_groups = 1, bool lars = false);
  ~World();

  // Both of these have to succeed or to fail by the fault; the second try has none.
  void make_launcher();
  void step(cudaStream_t stream);
  // A step that is captured, alone; null where the capture was invalidated.
  fake::Graph* capture(cudaStream_t stream,
                       cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal);
  void replay(fake::Graph* graph, cudaStream_t stream);
  void destroy(fake::Graph* graph);
  void update_captured(cudaStream_t stream);
  void destroy_launcher();

  // Runs the calls that the fault may strike; on an error checks that nothing has moved, and tries
  // again.
  void attempt(const std::function<void()>& calls);
  // Waits for the device and compares with the twin.
  void check(const std::string& when);
  // At the end: nothing is left, no rule was broken. may_give_up: a buffer that may be in use, as
  // nothing works any more that would tell.
  void check_clean(bool may_give_up);

  cudaStream_t stream();  // a new one
  // Lets gradients come from elsewhere: 0 or 1.
  void use_gradients(size_t set) { gradients_ = set; }
  void use(std::vector<bool> active);
  // Another rate; in memory that only what is held keeps alive, or as a number.
  void set_lr(double lr, bool in_memory);

  const int device;
  bool measures_first = false;  // LARS's first launch by itself, as where ranks add their sums
  std::shared_ptr<FakeMemory> memory = std::make_shared<FakeMemory>();
  std::unique_ptr<cuda::Launcher> launcher;
  int n_errors = 0;

 private:
  std::vector<TensorEntry> entries();
  Norms norms();
  void try_step(cudaStream_t stream);
  void update_twin();
  void compare(const std::string& when);

  std::vector<Tensor> tensors_, twins_;
  std::vector<std::vector<float>> grads_[2];
  size_t gradients_ = 0;
  std::vector<bool> active_;
  uint64_t generation_ = 0;
  std::vector<Group> groups_;
  std::vector<double> values_;
  std::vector<Segment> segments_;
  std::vector<Schedule> schedules_;
  std::vector<double> lr_;
  const bool lars_;
  std::vector<double> squares_, partials_;
  std::vector<uint32_t> tickets_;
  int64_t t_ = 0, twin_t_ = 0;
  std::shared_ptr<double> lr_in_memory_;
  std::vector<cudaStream_t> streams_;
  std::vector<fake::Graph*> graphs_;
  struct Recorded {
    size_t gradients;
    std::vector<bool> active;
    std::vector<Group> groups;
    std::shared_ptr<double> lr;
  };
  std::map<fake::Graph*, Recorded> recorded_;
};
