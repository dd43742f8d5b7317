#include "cpu_plan.h"

#include <omp.h>

#include <algorithm>
#include <stdexcept>

namespace fused_warmup {
namespace {

constexpr int64_t OVERHEAD = 64;        // what starting a tensor costs, in elements
constexpr int64_t GRAIN = 32 * 1024;    // less work than this is not worth another thread
constexpr int64_t SPLIT_MULTIPLE = 64;  // threads never share a cache line of a tensor

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

std::vector<std::string> cpu_capabilities() {
  std::vector<std::string> names{"DEFAULT"};
#ifdef HAVE_AVX2
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.push_back("AVX2");
#endif
#ifdef HAVE_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    names.push_back("AVX512");
  }
#endif
  return names;
}

bool CpuPlan::launch(bool advance) {
  if (step_.found_inf != nullptr && *step_.found_inf != 0.0f) return false;
  const int64_t t = *step_.t;
  std::vector<double> lr(groups_.size());
  for (size_t i = 0; i < groups_.size(); ++i) {
    lr[i] = learning_rate(groups_[i], schedules_.data(), t);
  }
  {
    const py::gil_scoped_release release;
    update_all(lr);
  }
  std::copy(lr.begin(), lr.end(), step_.lr);
  for (const TensorEntry& entry : entries_) {
    if (entry.first_step != nullptr && *entry.first_step == FIRST_STEP_NEVER) *entry.first_step = t;
  }
  if (advance) *step_.t = t + 1;
  return true;
}

void CpuPlan::lay_out() {
  line_.assign(1, 0);
  for (const TensorEntry& entry : entries_) {
    line_.push_back(line_.back() + entry.n_elements + OVERHEAD);
  }
  laid_out_ = generation_;
}

void CpuPlan::update_all(const std::vector<double>& lr) {
  if (entries_.empty()) return;
  if (laid_out_ != generation_) lay_out();
  const int64_t t = *step_.t;
  const int64_t work = line_.back();

  // Positions first..last of the line. A tensor's elements end OVERHEAD before the next begins.
  const auto run = [&](int64_t first, int64_t last) {
    size_t i = static_cast<size_t>(std::upper_bound(line_.begin(), line_.end(), first) -
                                   line_.begin() - 1);
    for (; i < entries_.size() && line_[i] < last; ++i) {
      const TensorEntry& entry = entries_[i];
      // A cut inside a tensor falls on the same multiple for the thread before it and after it.
      const auto cut = [&](int64_t position) {
        const int64_t inside = (position - line_[i]) / SPLIT_MULTIPLE * SPLIT_MULTIPLE;
        return std::clamp<int64_t>(inside, 0, entry.n_elements);
      };
      const int64_t begin = cut(first);
      const int64_t end = last >= line_[i + 1] ? entry.n_elements : cut(last);
      if (begin >= end) continue;
      const size_t group = static_cast<size_t>(entry.group);
      update_(entry, groups_[group], step_, lr[group], is_first_step(entry.first_step, t), begin,
              end);
    }
  };

  const int64_t useful = (work + GRAIN - 1) / GRAIN;
  const int threads = static_cast<int>(std::min<int64_t>(omp_get_max_threads(), useful));
  if (threads <= 1) return run(0, work);
#pragma omp parallel num_threads(threads)
  {
    const int64_t n = omp_get_num_threads();
    const int64_t k = omp_get_thread_num();
    run(work / n * k, k + 1 == n ? work : work / n * (k + 1));
  }
}

}  // namespace fused_warmup
