// Launches that CUDA graphs hold. Each reads tables of its own, which must be there until the
// graph, what was instantiated from it and every replay that is under way are gone: longer,
// perhaps, than the optimizer.
#pragma once

#include <atomic>
#include <vector>

#include "cuda/memory.h"
#include "cuda/staging.h"
#include "cuda/tables.h"

namespace fused_warmup {
namespace cuda {

// Set by CUDA when a graph and all replays of it are gone.
using Gone = std::shared_ptr<std::atomic<bool>>;

// Lets the graph that `stream` is being captured into set the flag.
Gone tie_to_graph(cudaStream_t stream);

// A stream for copies that captured launches need beforehand; other streams take no notice of it.
// One a device, for as long as the process lives: the allocator keeps memory by stream.
cudaStream_t side_stream(int device);

struct CapturedLaunch {
  Tables tables;
  Block block;
  Gone gone;
  std::vector<std::shared_ptr<void>> held;  // what the tables point to and nobody else may hold
  bool is_stale = false;                    // the device has not got the last change of its tables
};

// What a launcher leaves behind, for as long as the device may use it.
struct Remains {
  Staging staging;
  std::vector<CapturedLaunch> captured;

  // Frees the tables of graphs that are gone.
  void sweep();
};

// Keeps them, and frees what others left behind that nothing uses any more. Never waits.
void bury(std::unique_ptr<Remains> remains) noexcept;

}  // namespace cuda
}  // namespace fused_warmup
