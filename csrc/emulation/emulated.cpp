#include "emulation/emulated.h"

#include <algorithm>

#include "cuda/lars.h"
#include "emulation/blocks.h"

namespace fused_warmup {

using namespace cuda;

LarsArgs EmulatedPlan::lay_out() {
  if (built_ != generation_) {
    tables_.build(entries_, extras_, groups_, schedules_, resident_blocks_);
    built_ = generation_;
  } else {
    tables_.update(entries_, extras_, groups_);
  }
  tables_.relocate(tables_.data());
  return {tables_.args(tables_.data(), step_, &ticket_), norms_};
}

std::vector<int> EmulatedPlan::order() const {
  std::vector<int> order;
  for (const int block : order_) {
    if (block >= 0 && block < tables_.n_blocks()) order.push_back(block);
  }
  for (int block = 0; block < tables_.n_blocks(); ++block) {
    if (std::find(order.begin(), order.end(), block) == order.end()) order.push_back(block);
  }
  return order;
}

void EmulatedPlan::launch_norms() {
  const LarsArgs args = lay_out();
  if (!is_handed_over("norms", NORMS_SHARED_BYTES, args, sizeof args)) run_norms(args, order());
}

void EmulatedPlan::launch_kernel(bool advance) {
  step_.advance = advance;
  if (is_lars() && !is_measured()) launch_norms();
  const LarsArgs args = lay_out();
  const size_t shared = tables_.shared_bytes();
  if (is_lars()) {
    if (!is_handed_over("lars", shared, args, sizeof args)) {
      run_blocks(args, tables_.dtypes(), order());
    }
  } else if (!is_handed_over("sgd", shared, args, sizeof(LaunchArgs))) {
    run_blocks(static_cast<const LaunchArgs&>(args), tables_.dtypes(), order());
  }
}

bool EmulatedPlan::is_handed_over(const char* kernel, size_t shared, const LarsArgs& args,
                                  size_t size) {
  if (!launch_with_ || launch_with_.is_none()) return false;
  py::list memory;
  for (const MemoryRange& each : memory_of_launch()) {
    memory.append(py::make_tuple(each.begin, each.end, each.writable));
  }
  launch_with_(kernel, static_cast<int>(tables_.dtypes()), order(), BLOCK_SIZE, shared,
               py::bytes(reinterpret_cast<const char*>(&args), size), memory);
  return true;
}

std::vector<MemoryRange> EmulatedPlan::memory_of_launch() {
  std::vector<MemoryRange> ranges;
  const auto add = [&ranges](const void* at, size_t size, bool writable) {
    const uint64_t begin = reinterpret_cast<uintptr_t>(at);
    if (at != nullptr) ranges.push_back({begin, begin + size, writable});
  };
  add(tables_.data(), tables_.size(), false);
  add(&ticket_, sizeof ticket_, true);
  add(step_.t, sizeof *step_.t, step_.advance);
  add(step_.lr, groups_.size() * sizeof *step_.lr, true);
  add(step_.given, groups_.size() * (step_.gives_float ? sizeof(float) : sizeof(double)), true);
  add(step_.found_inf, sizeof *step_.found_inf, false);
  add(step_.grad_scale, sizeof *step_.grad_scale, false);
  if (is_lars()) {
    const size_t rows = n_parameters();
    add(norms_.squares, 2 * rows * sizeof(double), true);
    add(norms_.tickets, rows * sizeof(uint32_t), true);
    const int64_t slots = first_slot(work_of(entries_), static_cast<int64_t>(entries_.size()));
    add(norms_.partials, static_cast<size_t>(2 * slots) * sizeof(double), true);
  }
  for (const Group& group : groups_) {
    add(group.lr_ptr, static_cast<size_t>(size_of(group.lr_dtype)), false);
  }
  for (const TensorEntry& entry : entries_) {
    const auto bytes = [&entry](DType dtype) {
      return static_cast<size_t>(entry.n_elements * size_of(dtype));
    };
    add(entry.param, bytes(entry.param_dtype), true);
    add(entry.grad, bytes(entry.grad_dtype), step_.write_grads);
    add(entry.momentum_buffer, bytes(entry.param_dtype), true);
    add(entry.first_step, sizeof *entry.first_step, true);
  }
  for (size_t i = 0; i < extras_.size(); ++i) {
    const int64_t n_elements = entries_[i].n_elements;
    const int64_t wide = entries_[i].param_dtype == DType::FLOAT64 ? 8 : 4;
    add(extras_[i].ema, static_cast<size_t>(n_elements * wide), true);
    add(extras_[i].rounded, static_cast<size_t>(n_elements * size_of(extras_[i].rounded_dtype)),
        true);
  }
  return ranges;
}

std::vector<int64_t> share_sizes(const std::vector<int64_t>& sizes, int resident_blocks) {
  std::vector<TensorEntry> entries(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) entries[i].n_elements = sizes[i];
  Tables tables;
  tables.build(entries, {}, {}, {}, resident_blocks);
  const Share* shares = reinterpret_cast<const Share*>(tables.data() + tables.shares_at());
  std::vector<int64_t> works;
  for (int32_t i = 0; i < tables.n_shares(); ++i) {
    works.push_back(shares[i + 1].begin - shares[i].begin);
  }
  return works;
}

}  // namespace fused_warmup
