// The CUDA launcher: owns a device's copies of the tables and launches the kernels of sgd.cu over
// them. Free of Python and torch, and plain C++ against CUDA's runtime API.
//
// A step is prepare(), stage(), launch(). What may fail for want of memory or wait for the device
// is in the first, before anything is looked at; tables travel in the second; the third is the one
// call that moves anything. After an error in any of them the next step begins anew.
//
// Each stream has tables of its own, so the order of a stream's work is all the order they need.
#pragma once

#include <memory>
#include <vector>

#include "cuda/memory.h"
#include "cuda/tables.h"

namespace fused_warmup {
namespace cuda {

// What a step's tables are made of. generation tells whether the set of tensors is still that of
// the step before.
struct StepTables {
  const std::vector<TensorEntry>& entries;
  const std::vector<Extras>& extras;
  const std::vector<Group>& groups;
  const std::vector<Schedule>& schedules;
  uint64_t generation;
};

class Launcher {
 public:
  // n_entries: at most so many tensors a launch. lars: whether its launches are LARS's. Throws
  // std::invalid_argument where the device cannot hold the rates of so many groups; like every
  // other method, std::runtime_error with CUDA's own words where a call fails, OutOfMemory where
  // memory is what it fails for.
  Launcher(int device, size_t n_entries, const std::vector<Group>& groups,
           const std::vector<Schedule>& schedules, std::shared_ptr<Memory> memory, bool lars);
  ~Launcher();
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  // Gets hold of what the next step on `stream` takes. False: copies of earlier steps fill all
  // buffers, and wait() has to come first.
  bool prepare(void* stream);
  // Waits for the device. Touches nothing that Python's lock guards.
  void wait();

  // Brings tables on the device up to date.
  void stage(const StepTables& now);

  // Whether the step that was prepared is captured into a CUDA graph.
  bool is_capturing() const;

  // The first launch of LARS over what was staged, which launch() makes itself unless it is told
  // that this has been called.
  void launch_norms(const StepScalars& scalars, const Norms& norms);

  // Launches the kernel over what was staged. `held` is what has to stay until a graph that the
  // launch is captured into is gone. norms: of LARS.
  void launch(const StepScalars& scalars, const Norms& norms, bool is_measured,
              std::shared_ptr<void> held);

  // Launches recorded in CUDA graphs that are still there.
  size_t n_captured() const;

  // Copies hyper-parameters into the tables of captured launches, for their next replays, in the
  // order of the work of `stream`.
  void update_captured(const std::vector<Group>& groups, void* stream,
                       const std::shared_ptr<void>& held);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda
}  // namespace fused_warmup
