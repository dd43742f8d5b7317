#include "triton/tables.h"

#include <algorithm>
#include <cstring>

#include "launch/line.h"

namespace fused_warmup {
namespace triton {
namespace {

constexpr int64_t MIN_SHARE = 2048;  // a program with less to do than this is not worth starting

uint32_t pairs_of(const std::vector<TensorEntry>& entries) {
  uint32_t pairs = 0;
  for (const TensorEntry& entry : entries) {
    pairs |= 1u << (4 * static_cast<int>(entry.param_dtype) + static_cast<int>(entry.grad_dtype));
  }
  return pairs;
}

}  // namespace

void Tables::refresh(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
                     const std::vector<Group>& groups, const std::vector<Schedule>& schedules,
                     uint64_t generation, int32_t max_shares) {
  if (generation_ != generation) {
    const int64_t useful = std::max<int64_t>(1, work_of(entries) / MIN_SHARE);
    build(entries, extras, groups, schedules,
          static_cast<int32_t>(std::min<int64_t>(max_shares, useful)));
    dtype_pairs_ = pairs_of(entries);
    generation_ = generation;
    ++layout_;
    ++content_;
    return;
  }
  const bool entries_differ = update_entries(entries, extras);
  if (entries_differ) dtype_pairs_ = pairs_of(entries);  // a gradient may come in another dtype
  if (update_groups(groups) || entries_differ) ++content_;
}

void Tables::write(uintptr_t base, uintptr_t to, size_t size) {
  relocate(reinterpret_cast<const char*>(base));
  std::memcpy(reinterpret_cast<void*>(to), data(), std::min(size, this->size()));
}

std::array<size_t, 6> Tables::places() const {
  return {extras_at(), groups_at(),    line_at(),
          shares_at(), schedules_at(), static_cast<size_t>(n_groups())};
}

}  // namespace triton
}  // namespace fused_warmup
