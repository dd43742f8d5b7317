#include "cuda/tables.h"

#include <algorithm>

#include "launch/line.h"

namespace fused_warmup {
namespace cuda {
namespace {

constexpr int64_t MIN_BLOCK_WORK = int64_t{FW_MIN_SHARE} * BLOCK_SIZE / WARP_SIZE;

DTypes dtypes_of(const std::vector<TensorEntry>& entries, bool has_extras) {
  if (has_extras) {
    const bool is_float32 =
        std::all_of(entries.begin(), entries.end(), [](const TensorEntry& entry) {
          return entry.param_dtype == DType::FLOAT32 && entry.grad_dtype != DType::FLOAT64;
        });
    return is_float32 ? DTypes::FLOAT32_EXTRAS : DTypes::MIXED_EXTRAS;
  }
  const auto all = [&entries](DType param_dtype, DType grad_dtype) {
    return std::all_of(entries.begin(), entries.end(), [=](const TensorEntry& entry) {
      return entry.param_dtype == param_dtype && entry.grad_dtype == grad_dtype;
    });
  };
  if (all(DType::FLOAT32, DType::FLOAT32)) return DTypes::FLOAT32;
  if (all(DType::BFLOAT16, DType::BFLOAT16)) return DTypes::BFLOAT16;
  if (all(DType::FLOAT16, DType::FLOAT16)) return DTypes::FLOAT16;
  if (all(DType::FLOAT32, DType::BFLOAT16)) return DTypes::FLOAT32_BFLOAT16;
  if (all(DType::FLOAT32, DType::FLOAT16)) return DTypes::FLOAT32_FLOAT16;
  return DTypes::MIXED;
}

}  // namespace

void Tables::build(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
                   const std::vector<Group>& groups, const std::vector<Schedule>& schedules,
                   int resident_blocks) {
  const int64_t useful = std::max<int64_t>(1, work_of(entries) / MIN_BLOCK_WORK);
  const int64_t blocks = std::min<int64_t>(int64_t{FW_WAVES} * resident_blocks, useful);
  LaunchTables::build(entries, extras, groups, schedules,
                      static_cast<int32_t>(blocks) * SHARES_PER_BLOCK);
  dtypes_ = dtypes_of(entries, has_extras());
}

bool Tables::update(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
                    const std::vector<Group>& groups) {
  const bool entries_differ = update_entries(entries, extras);
  // A gradient may come in another dtype.
  if (entries_differ) dtypes_ = dtypes_of(entries, has_extras());
  return update_groups(groups) || entries_differ;
}

LaunchArgs Tables::args(char* base, const StepScalars& step, uint32_t* ticket) const {
  LaunchArgs args{};
  args.entries = reinterpret_cast<const TensorEntry*>(base);
  args.extras = has_extras() ? reinterpret_cast<const Extras*>(base + extras_at()) : nullptr;
  args.groups = reinterpret_cast<const Group*>(base + groups_at());
  args.line = reinterpret_cast<const int64_t*>(base + line_at());
  args.shares = reinterpret_cast<const Share*>(base + shares_at());
  args.schedules = reinterpret_cast<const Schedule*>(base + schedules_at());
  args.n_entries = n_entries();
  args.n_groups = n_groups();
  args.step = step;
  args.ticket = ticket;
  return args;
}

}  // namespace cuda
}  // namespace fused_warmup
