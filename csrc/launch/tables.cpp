#include "launch/tables.h"

#include <cstring>

#include "launch/line.h"

namespace fused_warmup {

void LaunchTables::build(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
                         const std::vector<Group>& groups, const std::vector<Schedule>& schedules,
                         int32_t n_shares) {
  const std::vector<int64_t> line = make_line(entries);
  const std::vector<Share> shares = make_shares(line, n_shares);

  bytes_.clear();
  const auto append = [this](const void* from, size_t size) {
    const size_t at = bytes_.size();
    bytes_.resize((at + size + 15) / 16 * 16);
    if (size > 0) std::memcpy(bytes_.data() + at, from, size);
    return at;
  };
  append(entries.data(), entries.size() * sizeof(TensorEntry));
  extras_at_ = append(extras.data(), extras.size() * sizeof(Extras));
  groups_at_ = append(groups.data(), groups.size() * sizeof(Group));
  line_at_ = append(line.data(), line.size() * sizeof(int64_t));
  shares_at_ = append(shares.data(), shares.size() * sizeof(Share));
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
  n_shares_ = n_shares;
  has_extras_ = !extras.empty();
  n_schedules_ = schedules.size();
}

bool LaunchTables::holds(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
                         const std::vector<Group>& groups) const {
  const auto is_at = [this](size_t at, const void* from, size_t size) {
    return size == 0 || std::memcmp(bytes_.data() + at, from, size) == 0;
  };
  return entries.size() == static_cast<size_t>(n_entries_) &&
         groups.size() == static_cast<size_t>(n_groups_) && has_extras_ == !extras.empty() &&
         is_at(0, entries.data(), entries.size() * sizeof(TensorEntry)) &&
         is_at(extras_at_, extras.data(), extras.size() * sizeof(Extras)) &&
         is_at(groups_at_, groups.data(), groups.size() * sizeof(Group));
}

bool LaunchTables::replace(size_t at, const void* from, size_t size) {
  if (size == 0 || std::memcmp(bytes_.data() + at, from, size) == 0) return false;
  std::memcpy(bytes_.data() + at, from, size);
  return true;
}

bool LaunchTables::update_entries(const std::vector<TensorEntry>& entries,
                                  const std::vector<Extras>& extras) {
  const bool extras_differ = replace(extras_at_, extras.data(), extras.size() * sizeof(Extras));
  return replace(0, entries.data(), entries.size() * sizeof(TensorEntry)) || extras_differ;
}

bool LaunchTables::update_groups(const std::vector<Group>& groups) {
  return replace(groups_at_, groups.data(), groups.size() * sizeof(Group));
}

void LaunchTables::relocate(const char* base) {
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

}  // namespace fused_warmup
