#include "cuda/tables.h"

#include <algorithm>

namespace fused_warmup {
namespace cuda {
namespace {

constexpr int64_t MIN_SHARE = 512;  // a warp with less to do than this is not worth starting

DTypes dtypes_of(const std::vector<TensorEntry>& entries) {
  const auto all = [&entries](DType dtype) {
    return std::all_of(entries.begin(), entries.end(), [dtype](const TensorEntry& entry) {
      return entry.param_dtype == dtype && entry.grad_dtype == dtype;
    });
  };
  if (all(DType::FLOAT32)) return DTypes::FLOAT32;
  if (all(DType::BFLOAT16)) return DTypes::BFLOAT16;
  if (all(DType::FLOAT16)) return DTypes::FLOAT16;
  return DTypes::MIXED;
}

}  // namespace

void Tables::build(const std::vector<TensorEntry>& entries, const std::vector<Group>& groups,
                   const std::vector<Schedule>& schedules, int resident_blocks) {
  const std::vector<int64_t> line = make_line(entries);
  const int64_t work = line.back();
  const int64_t useful = std::max<int64_t>(1, work / (MIN_SHARE * WARPS_PER_BLOCK));
  n_blocks_ = static_cast<int>(std::min<int64_t>(resident_blocks, useful));
  n_warps_ = n_blocks_ * WARPS_PER_BLOCK;
  std::vector<int32_t> first_entry;
  for (int32_t warp = 0; warp < n_warps_; ++warp) {
    first_entry.push_back(static_cast<int32_t>(tensor_at(line, share_begin(work, n_warps_, warp))));
  }

  bytes_.clear();
  const auto append = [this](const void* from, size_t size) {
    const size_t at = bytes_.size();
    bytes_.resize((at + size + 15) / 16 * 16);
    if (size > 0) std::memcpy(bytes_.data() + at, from, size);
    return at;
  };
  append(entries.data(), entries.size() * sizeof(TensorEntry));
  groups_at_ = append(groups.data(), groups.size() * sizeof(Group));
  lines_at_ = append(line.data(), line.size() * sizeof(int64_t));
  first_at_ = append(first_entry.data(), first_entry.size() * sizeof(int32_t));
  schedules_at_ = append(schedules.data(), schedules.size() * sizeof(Schedule));
  segments_at_ = bytes_.size();
  for (const Schedule& each : schedules) {
    append(each.segments, static_cast<size_t>(each.n_segments) * sizeof(Segment));
  }
  values_at_ = bytes_.size();
  for (const Schedule& each : schedules) {
    append(each.values, static_cast<size_t>(each.n_values) * sizeof(double));
  }
  n_entries_ = static_cast<int32_t>(entries.size());
  n_groups_ = static_cast<int32_t>(groups.size());
  n_schedules_ = schedules.size();
  dtypes_ = dtypes_of(entries);
}

bool Tables::replace(size_t at, const void* from, size_t size) {
  if (size == 0 || std::memcmp(bytes_.data() + at, from, size) == 0) return false;
  std::memcpy(bytes_.data() + at, from, size);
  return true;
}

bool Tables::update_groups(const std::vector<Group>& groups) {
  return replace(groups_at_, groups.data(), groups.size() * sizeof(Group));
}

bool Tables::update(const std::vector<TensorEntry>& entries, const std::vector<Group>& groups) {
  const bool entries_differ = replace(0, entries.data(), entries.size() * sizeof(TensorEntry));
  if (entries_differ) dtypes_ = dtypes_of(entries);  // a gradient may come in another dtype
  return update_groups(groups) || entries_differ;
}

void Tables::relocate(const char* base) {
  Schedule* schedules = reinterpret_cast<Schedule*>(bytes_.data() + schedules_at_);
  size_t segments = segments_at_;
  size_t values = values_at_;
  for (size_t i = 0; i < n_schedules_; ++i) {
    Schedule& each = schedules[i];
    each.segments = reinterpret_cast<const Segment*>(base + segments);
    each.values = reinterpret_cast<const double*>(base + values);
    segments += static_cast<size_t>(each.n_segments) * sizeof(Segment);
    values += (static_cast<size_t>(each.n_values) * sizeof(double) + 15) / 16 * 16;
  }
}

LaunchArgs Tables::args(char* base, const StepScalars& step, uint32_t* ticket) const {
  LaunchArgs args{};
  args.entries = reinterpret_cast<const TensorEntry*>(base);
  args.groups = reinterpret_cast<const Group*>(base + groups_at_);
  args.line = reinterpret_cast<const int64_t*>(base + lines_at_);
  args.first_entry = reinterpret_cast<const int32_t*>(base + first_at_);
  args.schedules = reinterpret_cast<const Schedule*>(base + schedules_at_);
  args.n_entries = n_entries_;
  args.n_warps = n_warps_;
  args.n_groups = n_groups_;
  args.step = step;
  args.ticket = ticket;
  return args;
}

}  // namespace cuda
}  // namespace fused_warmup
