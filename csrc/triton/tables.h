// What the Triton kernel adds to the tables of a launch: which pairs of dtypes its code is for, and
// marks by which Python sees what must travel to the device.
#pragma once

#include <array>

#include "launch/tables.h"

namespace fused_warmup {
namespace triton {

class Tables : public LaunchTables {
 public:
  // Brings the tables up to date. max_shares: how many programs the device holds at a time.
  // generation tells whether the set of tensors is still that of the last call.
  void refresh(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
               const std::vector<Group>& groups, const std::vector<Schedule>& schedules,
               uint64_t generation, int32_t max_shares);

  // Writes the first `size` bytes to `to`, as they will lie in tables at `base`.
  void write(uintptr_t base, uintptr_t to, size_t size);
  // Where extras, groups, line, shares and schedules lie in the tables; and the number of groups.
  std::array<size_t, 6> places() const;

  // Counts the changes of any byte; and those of more than the part that may change each step.
  uint64_t content() const { return content_; }
  uint64_t layout() const { return layout_; }
  // Bit 4 * p + g is set where a parameter of dtype p has a gradient of dtype g.
  uint32_t dtype_pairs() const { return dtype_pairs_; }

 private:
  uint64_t generation_ = ~uint64_t{0};  // that the tables were laid out for
  uint64_t content_ = 0, layout_ = 0;
  uint32_t dtype_pairs_ = 0;
};

}  // namespace triton
}  // namespace fused_warmup
