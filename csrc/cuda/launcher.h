// The CUDA launcher: owns a device's copy of the tables and launches the kernels of sgd.cu over
// them. Free of Python and torch, and plain C++ against CUDA's runtime API.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/tables.h"

namespace fused_warmup {
namespace cuda {

// Empty if a device and a driver are there, else why not.
std::string unavailable_reason();

class Launcher {
 public:
  // Throws std::invalid_argument where the device cannot hold the rates of so many groups.
  Launcher(int device, size_t n_groups);
  ~Launcher();
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  // Launches one step on `stream`. generation tells whether the set of tensors is still that of
  // the last call. Throws std::runtime_error with CUDA's own words where a call fails.
  void launch(const std::vector<TensorEntry>& entries, const std::vector<Group>& groups,
              const std::vector<Schedule>& schedules, const StepScalars& step, uint64_t generation,
              void* stream);

  // Launches recorded in CUDA graphs so far. Each reads tables of its own, which live as long as
  // the launcher.
  size_t n_captured() const;

  // Copies hyper-parameters into the tables of captured launches, for their next replays.
  void update_captured(const std::vector<Group>& groups, void* stream);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda
}  // namespace fused_warmup
