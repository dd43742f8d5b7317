// What the CUDA kernel adds to the tables of a launch: which kernel serves them, by how many
// blocks, and its arguments.
#pragma once

#include "cuda/kernel.h"
#include "launch/tables.h"

namespace fused_warmup {
namespace cuda {

// What the tensors of a launch hold: parameter and gradient alike, float32 parameters with smaller
// gradients, or anything. Each has a kernel of its own, and so have launches with extras, for which
// others pay nothing: those whose parameters (or masters) are float32, and the rest.
enum class DTypes {
  FLOAT32,
  BFLOAT16,
  FLOAT16,
  FLOAT32_BFLOAT16,
  FLOAT32_FLOAT16,
  MIXED,
  FLOAT32_EXTRAS,
  MIXED_EXTRAS
};
constexpr int N_KERNELS = 8;

class Tables : public LaunchTables {
 public:
  // Lays the tables out anew, a share for each SHARE_THREADS. resident_blocks: how many blocks the
  // device holds at a time.
  void build(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
             const std::vector<Group>& groups, const std::vector<Schedule>& schedules,
             int resident_blocks);

  // Overwrites what may change from step to step, and with it the kernel that serves the tensors.
  // Whether a byte of it differs.
  bool update(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
              const std::vector<Group>& groups);

  // The launch over tables that begin at `base`, which is where the bytes will lie.
  LaunchArgs args(char* base, const StepScalars& step, uint32_t* ticket) const;

  int n_blocks() const { return n_shares() / SHARES_PER_BLOCK; }
  size_t shared_bytes() const { return static_cast<size_t>(n_groups()) * sizeof(Rates); }
  DTypes dtypes() const { return dtypes_; }

 private:
  DTypes dtypes_ = DTypes::FLOAT32;
};

}  // namespace cuda
}  // namespace fused_warmup
