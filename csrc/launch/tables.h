// The tables that one launch reads, laid out in one block of bytes, so that they travel to the
// device in one copy: first what may change from step to step, then what belongs to the set of
// active parameters. The same for every kernel that runs on a device.
#pragma once

#include <vector>

#include "launch/plan.h"

namespace fused_warmup {

class LaunchTables {
 public:
  // Lays the tables out anew, for work that is cut into n_shares (see line.h).
  void build(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
             const std::vector<Group>& groups, const std::vector<Schedule>& schedules,
             int32_t n_shares);

  // Whether this is what the tables were last built from or updated with.
  bool holds(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras,
             const std::vector<Group>& groups) const;

  // Overwrites what may change from step to step; the set of tensors must be the same. Whether a
  // byte of it differs.
  bool update_entries(const std::vector<TensorEntry>& entries, const std::vector<Extras>& extras);
  bool update_groups(const std::vector<Group>& groups);

  char* data() { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }
  size_t changing_size() const { return line_at_; }
  int32_t n_entries() const { return n_entries_; }
  int32_t n_groups() const { return n_groups_; }
  int32_t n_shares() const { return n_shares_; }
  bool has_extras() const { return has_extras_; }

  // Where the tables lie in the block; that of the entries begins it.
  size_t extras_at() const { return extras_at_; }
  size_t groups_at() const { return groups_at_; }
  size_t line_at() const { return line_at_; }
  size_t shares_at() const { return shares_at_; }
  size_t schedules_at() const { return schedules_at_; }

  // Points the schedules at the copies of their segments and values in tables at `base`, which is
  // where the bytes will lie. Comes before the bytes go there.
  void relocate(const char* base);

 private:
  bool replace(size_t at, const void* from, size_t size);

  std::vector<char> bytes_;
  size_t extras_at_ = 0, groups_at_ = 0, line_at_ = 0, shares_at_ = 0, schedules_at_ = 0,
         segments_at_ = 0, values_at_ = 0;
  int32_t n_entries_ = 0, n_groups_ = 0, n_shares_ = 0;
  bool has_extras_ = false;
  size_t n_schedules_ = 0;
};

}  // namespace fused_warmup
