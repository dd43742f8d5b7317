#include "cpu/plan.h"

#if defined(HAVE_AVX2) || defined(HAVE_AVX512)
#include <cpuid.h>
#endif
#include <omp.h>

#include <algorithm>
#include <stdexcept>

#include "launch/line.h"

namespace fused_warmup {
namespace {

constexpr int64_t GRAIN = 32 * 1024;  // less work than this is not worth another thread

#if defined(HAVE_AVX2) || defined(HAVE_AVX512)
// Not by __builtin_cpu_supports: to older compilers "f16c" is an error (llvm/llvm-project#65320).
// Whether the operating system keeps the registers is AVX2's to answer.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

}  // namespace

UpdateRange CpuPlan::kernel_for(const std::string& capability) {
#ifdef HAVE_AVX512
  if (capability == "AVX512") return AVX512::update_range;
#endif
#ifdef HAVE_AVX2
  if (capability == "AVX2") return AVX2::update_range;
#endif
  if (capability == "DEFAULT") return DEFAULT::update_range;
  throw std::invalid_argument("CPU capability '" + capability + "' is not in this build");
}

// A kernel may run where all is there that setup.py's CAPABILITY_FLAGS compile it with.
std::vector<std::string> cpu_capabilities() {
  std::vector<std::string> names{"DEFAULT"};
#if defined(HAVE_AVX2) || defined(HAVE_AVX512)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#endif
#ifdef HAVE_AVX2
  if (avx2) names.push_back("AVX2");
#endif
#ifdef HAVE_AVX512
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    names.push_back("AVX512");
  }
#endif
  return names;
}

bool CpuPlan::skips() const { return step_.found_inf != nullptr && *step_.found_inf != 0.0f; }

void CpuPlan::launch_kernel(bool advance) {
  const int64_t t = *step_.t;
  std::vector<Rates> rates(groups_.size());
  for (size_t i = 0; i < groups_.size(); ++i) {
    rates[i] = rates_at(groups_[i], schedules_.data(), t);
  }
  // Python's lock is held: what another thread dropped meanwhile would be memory of somebody else.
  update_all(rates);
  for (size_t i = 0; i < groups_.size(); ++i) step_.lr[i] = rates[i].lr;
  for (const TensorEntry& entry : entries_) {
    const Rates& own = rates[static_cast<size_t>(entry.group)];
    if (is_marked_now(entry.first_step, own)) *entry.first_step = t;
  }
  if (advance) *step_.t = next_count(t);
}

void CpuPlan::update_all(const std::vector<Rates>& rates) {
  if (entries_.empty()) return;
  if (laid_out_ != generation_) {
    line_ = make_line(entries_);
    laid_out_ = generation_;
  }
  const int64_t t = *step_.t;
  const int64_t work = line_.back();

  const auto run = [&](int32_t n_shares, int32_t share) {
    const int64_t first = share_begin(work, n_shares, share);
    const int64_t last = share_begin(work, n_shares, share + 1);
    for (size_t i = tensor_at(line_, first); i < entries_.size() && line_[i] < last; ++i) {
      const TensorEntry& entry = entries_[i];
      const int64_t begin = cut_at(first, line_[i], entry.n_elements);
      const int64_t end = end_at(last, line_[i], line_[i + 1], entry.n_elements);
      if (begin >= end) continue;
      const size_t group = static_cast<size_t>(entry.group);
      update_(entry, groups_[group], step_, rates[group], is_first_step(entry.first_step, t), begin,
              end);
    }
  };

  const int64_t useful = (work + GRAIN - 1) / GRAIN;
  const int threads = static_cast<int>(std::min<int64_t>(omp_get_max_threads(), useful));
  if (threads <= 1) return run(1, 0);
#pragma omp parallel num_threads(threads)
  run(omp_get_num_threads(), omp_get_thread_num());
}

}  // namespace fused_warmup
