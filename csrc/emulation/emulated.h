// A step by the CUDA kernel's body on the host: how tests without a GPU compare it with the
// reference. Not a backend.
//
// launch_with() puts something else in the body's place: tests/support/ptx runs what nvcc made of
// it.
#pragma once

#include <algorithm>

#include "cuda/tables.h"
#include "host/host_plan.h"

namespace fused_warmup {

// A piece of memory that a launch may touch.
struct MemoryRange {
  uint64_t begin, end;
  bool writable;
};

class EmulatedPlan : public HostPlan {
 public:
  template <typename... Args>
  EmulatedPlan(int resident_blocks, Args&&... args)
      : HostPlan(std::forward<Args>(args)...), resident_blocks_(std::max(resident_blocks, 1)) {}

  // Order in which blocks take their tickets in the next launches; those not named come after, in
  // order. All blocks compute their rates before the first takes its ticket, as blocks may.
  void set_block_order(const std::vector<int>& order) { order_ = order; }

  // Called for each launch with: name of the kernel ("sgd", "norms" or "lars"), which one it is of
  // these (see DTypes), order of the blocks, threads a block, bytes of shared memory, the bytes of
  // its arguments, and what it may touch as triples (begin, end, writable). None: the body in
  // kernel.h.
  void launch_with(const py::object& launch) { launch_with_ = launch; }

  void launch_norms() override;
  void launch_kernel(bool advance) override;

  int n_blocks() const { return tables_.n_blocks(); }
  uint32_t ticket() const { return ticket_; }

 private:
  cuda::LarsArgs lay_out();
  std::vector<int> order() const;
  // Hands the launch to launch_with_, if there is one.
  bool is_handed_over(const char* kernel, size_t shared, const cuda::LarsArgs& args, size_t size);
  std::vector<MemoryRange> memory_of_launch();

  int resident_blocks_;
  py::object launch_with_;
  std::vector<int> order_;
  cuda::Tables tables_;
  uint64_t built_ = ~uint64_t{0};
  uint32_t ticket_ = 0;
};

// The work of each share, for tensors of `sizes` elements on a GPU that holds so many blocks.
std::vector<int64_t> share_sizes(const std::vector<int64_t>& sizes, int resident_blocks);

}  // namespace fused_warmup
