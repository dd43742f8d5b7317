// The tables that one launch reads, laid out in one block of bytes, so that they travel to the
// device in one copy: first what may change from step to step, then what belongs to the set of
// active parameters.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "cuda/kernel.h"

namespace fused_warmup {
namespace cuda {

enum class DTypes { FLOAT32, BFLOAT16, FLOAT16, MIXED };

class Tables {
 public:
  // Lays the tables out anew. resident_blocks: how many blocks the device holds at a time.
  void build(const std::vector<TensorEntry>& entries, const std::vector<Group>& groups,
             const std::vector<Schedule>& schedules, int resident_blocks);

  // Overwrites the part that may change from step to step; the set of tensors must be the same.
  // Whether a byte of it differs.
  bool update(const std::vector<TensorEntry>& entries, const std::vector<Group>& groups);
  bool update_groups(const std::vector<Group>& groups);

  // The launch over tables that begin at `base`, which is where the bytes will lie.
  LaunchArgs args(char* base, const StepScalars& step, uint32_t* ticket) const;

  char* data() { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }
  size_t changing_size() const { return lines_at_; }
  int n_blocks() const { return n_blocks_; }
  size_t shared_bytes() const { return static_cast<size_t>(n_groups_) * sizeof(Rates); }
  DTypes dtypes() const { return dtypes_; }

  // Points the schedules at the copies of their segments and values in tables at `base`. Comes
  // before the bytes go there.
  void relocate(const char* base);

 private:
  bool replace(size_t at, const void* from, size_t size);

  std::vector<char> bytes_;
  size_t groups_at_ = 0, lines_at_ = 0, first_at_ = 0, schedules_at_ = 0, segments_at_ = 0,
         values_at_ = 0;
  int32_t n_entries_ = 0, n_groups_ = 0, n_warps_ = 0;
  int n_blocks_ = 0;
  size_t n_schedules_ = 0;
  DTypes dtypes_ = DTypes::FLOAT32;
};

}  // namespace cuda
}  // namespace fused_warmup
