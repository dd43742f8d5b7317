#include "cpu/plan.h"

#if defined(HAVE_AVX2) || defined(HAVE_AVX512)
#include <cpuid.h>
#endif
#include <omp.h>

#include <algorithm>
#include <stdexcept>

#include "launch/norms.h"

namespace fused_warmup {
namespace {

constexpr int64_t GRAIN = 32 * 1024;  // less work than this is not worth another thread
constexpr size_t AHEAD = 8;           // so many tensors before its own, elements are asked for

#if defined(HAVE_AVX2) || defined(HAVE_AVX512)
// Not by __builtin_cpu_supports: to older compilers "f16c" is an error (llvm/llvm-project#65320).
// Whether the operating system keeps the registers is AVX2's to answer.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

// Whether a kernel converts elements of any of these to the arithmetic type.
bool are_converted(const std::vector<TensorEntry>& entries) {
  return std::any_of(entries.begin(), entries.end(), [](const TensorEntry& entry) {
    return entry.grad_dtype != entry.param_dtype || size_of(entry.param_dtype) < 4;
  });
}

}  // namespace

CpuPlan::Kernels CpuPlan::kernels_for(const std::string& capability) {
#ifdef HAVE_AVX512
  if (capability == "AVX512")
    return {AVX512::update_range, AVX512::update_range_by_lars, AVX512::sum_chunk};
#endif
#ifdef HAVE_AVX2
  if (capability == "AVX2")
    return {AVX2::update_range, AVX2::update_range_by_lars, AVX2::sum_chunk};
#endif
  if (capability == "DEFAULT")
    return {DEFAULT::update_range, DEFAULT::update_range_by_lars, DEFAULT::sum_chunk};
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
    if (!extras_.empty()) {
      rates[i].ema_weight = track_at(groups_[i], schedules_.data(), t, 2);
    }
  }
  if (is_lars() && !is_measured()) launch_norms();
  // Python's lock is held: what another thread dropped meanwhile would be memory of somebody else.
  update_all(rates);
  for (size_t i = 0; i < groups_.size(); ++i) {
    put_rate(step_, static_cast<int64_t>(i), rates[i].lr);
  }
  for (const TensorEntry& entry : entries_) {
    const Rates& own = rates[static_cast<size_t>(entry.group)];
    if (is_marked_now(entry.first_step, own)) *entry.first_step = t;
  }
  if (advance) *step_.t = next_count(t);
}

// Conversions gain from vectors of 512 bits. Without any, memory is the limit, and a step of 25
// million elements took 8 % longer with them than with 256 bits on Zen 4. torch's has 256, too.
void CpuPlan::lay_out() {
  const bool is_too_wide = capability_ == "AVX512" && !are_converted(entries_);
  kernels_ = kernels_for(is_too_wide ? "AVX2" : capability_);
  line_ = make_line(entries_);
  laid_out_ = generation_;
}

template <typename Visit>
__attribute__((always_inline)) inline void CpuPlan::for_each_part(const Visit& visit) {
  if (entries_.empty()) return;
  if (laid_out_ != generation_) lay_out();
  const auto run = [this, &visit](int32_t n_shares, int32_t share) {
    const int64_t first = share_begin(line_.back(), n_shares, share);
    const int64_t last = share_begin(line_.back(), n_shares, share + 1);
    const int64_t* const line = line_.data();
    const size_t n_entries = entries_.size();
    for (size_t i = tensor_at(line_, first); i < n_entries && line[i] < last; ++i) {
      visit(i, first, last);
    }
  };
  const int64_t useful = (line_.back() + GRAIN - 1) / GRAIN;
  const int threads = static_cast<int>(std::min<int64_t>(omp_get_max_threads(), useful));
  if (threads <= 1) return run(1, 0);
#pragma omp parallel num_threads(threads)
  run(omp_get_num_threads(), omp_get_thread_num());
}

void CpuPlan::launch_norms() {
  for_each_part([this](size_t i, int64_t first, int64_t last) {
    const TensorEntry& entry = entries_[i];
    const int64_t chunk = chunk_size(entry.n_elements);
    const Chunks own = chunks_in(first, last, line_[i], entry.n_elements, chunk);
    double* const sums = norms_.partials + 2 * first_slot(line_[i], static_cast<int64_t>(i));
    for (int64_t k = own.begin; k < own.end; ++k) {
      const int64_t begin = k * chunk;
      const int64_t end = std::min(begin + chunk, entry.n_elements);
      kernels_.sum_chunk(entry, step_.grad_scale, begin, end, sums + 2 * k);
    }
  });
  for (size_t i = 0; i < entries_.size(); ++i) {
    const TensorEntry& entry = entries_[i];
    const int64_t n = n_chunks(entry.n_elements, chunk_size(entry.n_elements));
    const double* sums = norms_.partials + 2 * first_slot(line_[i], static_cast<int64_t>(i));
    double* const squares = norms_.squares + 2 * entry.row;
    for (int which = 0; which < 2; ++which) squares[which] = sum_of_chunks(sums + which, n);
  }
}

void CpuPlan::update_all(const std::vector<Rates>& rates) {
  if (is_lars()) return update_parts(rates, std::true_type());
  update_parts(rates, std::false_type());
}

template <bool Lars>
void CpuPlan::update_parts(const std::vector<Rates>& rates, std::bool_constant<Lars>) {
  const int64_t t = *step_.t;
  for_each_part([this, &rates, t](size_t i, int64_t first, int64_t last) {
    const TensorEntry& entry = entries_[i];
    if (i + AHEAD < entries_.size()) {
      const TensorEntry& next = entries_[i + AHEAD];
      for (const void* data : {next.param, next.grad, next.momentum_buffer}) {
        __builtin_prefetch(data);
      }
    }
    const int64_t begin = cut_at(first, line_[i], entry.n_elements);
    const int64_t end = end_at(last, line_[i], line_[i + 1], entry.n_elements);
    if (begin >= end) return;
    const size_t group = static_cast<size_t>(entry.group);
    const Extras* const extras = extras_.empty() ? nullptr : &extras_[i];
    const auto update = [&](auto* kernel, auto... squares) {
      kernel(entry, extras, groups_[group], step_, rates[group], is_first_step(entry.first_step, t),
             begin, end, squares...);
    };
    if constexpr (Lars) {
      update(kernels_.update_by_lars, norms_.squares + 2 * entry.row);
    } else {
      update(kernels_.update);
    }
  });
}

}  // namespace fused_warmup
