// The device has fused multiply-adds; here the C library's stand in for them.
#define FW_HAS_FMA
#include "emulation/blocks.h"

#include "cuda/norms.h"

namespace fused_warmup {
namespace cuda {
namespace {

// atomicInc: wraps to 0 when it has reached `limit`.
uint32_t increment(uint32_t* ticket, uint32_t limit) {
  const uint32_t old = *ticket;
  *ticket = old >= limit ? 0 : old + 1;
  return old;
}

template <typename DTypes, typename Args>
void update_block(const Args& args, int64_t t, int block, const Rates* rates) {
  for (int thread = 0; thread < BLOCK_SIZE; ++thread) {
    const int share = block * SHARES_PER_BLOCK + thread / SHARE_THREADS;
    update_share<DTypes>(args, t, share, thread % SHARE_THREADS, rates);
  }
}

void update_block(DTypes dtypes, const LarsArgs& args, int64_t t, int block, const Rates* rates) {
  if (dtypes == DTypes::FLOAT32) {
    update_block<Uniform<float, float>>(args, t, block, rates);
  } else if (dtypes >= DTypes::FLOAT32_EXTRAS) {
    update_block<MixedWithExtras>(args, t, block, rates);
  } else {
    update_block<Mixed>(args, t, block, rates);
  }
}

void update_block(DTypes dtypes, const LaunchArgs& args, int64_t t, int block, const Rates* rates) {
  switch (dtypes) {
    case DTypes::FLOAT32:
      return update_block<Uniform<float, float>>(args, t, block, rates);
    case DTypes::BFLOAT16:
      return update_block<Uniform<bfloat16, bfloat16>>(args, t, block, rates);
    case DTypes::FLOAT16:
      return update_block<Uniform<float16, float16>>(args, t, block, rates);
    case DTypes::FLOAT32_BFLOAT16:
      return update_block<Uniform<float, bfloat16>>(args, t, block, rates);
    case DTypes::FLOAT32_FLOAT16:
      return update_block<Uniform<float, float16>>(args, t, block, rates);
    case DTypes::MIXED:
      return update_block<Mixed>(args, t, block, rates);
    case DTypes::FLOAT32_EXTRAS:
      return update_block<Float32WithExtras>(args, t, block, rates);
    case DTypes::MIXED_EXTRAS:
      return update_block<MixedWithExtras>(args, t, block, rates);
  }
}

template <typename Args>
void run_all(const Args& args, DTypes dtypes, const std::vector<int>& order) {
  struct Block {
    bool skipped;
    int64_t t;
    std::vector<Rates> rates;
  };
  std::vector<Block> blocks(order.size());
  for (const int block : order) {
    Block& own = blocks[static_cast<size_t>(block)];
    own.skipped = is_skipped(args);
    own.t = *args.step.t;
    own.rates.resize(static_cast<size_t>(args.n_groups));
    for (int thread = 0; thread < BLOCK_SIZE; ++thread) {
      if (args.extras == nullptr) {
        compute_rates<Mixed>(args, own.t, thread, own.rates.data());
      } else {
        compute_rates<WithExtras>(args, own.t, thread, own.rates.data());
      }
    }
  }
  const uint32_t limit = static_cast<uint32_t>(order.size()) - 1;
  for (const int block : order) {
    const Block& own = blocks[static_cast<size_t>(block)];
    if (own.skipped) continue;
    update_block(dtypes, args, own.t, block, own.rates.data());
    if (increment(args.ticket, limit) == limit) finish(args, own.t, own.rates.data());
  }
}

void add_halves(int64_t n, WarpSums& sums) {
  for (int64_t half = first_half(n); half > 0; half /= 2) {
    for (int thread = 0; thread < WARP_SIZE; ++thread) add_half(half, thread, sums);
  }
}

}  // namespace

void run_blocks(const LaunchArgs& args, DTypes dtypes, const std::vector<int>& order) {
  run_all(args, dtypes, order);
}

void run_blocks(const LarsArgs& args, DTypes dtypes, const std::vector<int>& order) {
  run_all(args, dtypes, order);
}

void run_norms(const LarsArgs& args, const std::vector<int>& order) {
  if (is_skipped(args)) return;
  WarpSums sums;
  for (const int block : order) {
    for (int warp = 0; warp < SHARES_PER_BLOCK; ++warp) {
      for_each_chunk(args, block * SHARES_PER_BLOCK + warp, [&](const Chunk& chunk) {
        for (int thread = 0; thread < WARP_SIZE; ++thread) sum_lanes(args, chunk, thread, sums);
        add_halves(chunk.end - chunk.begin, sums);
        store_sums(sums, args.norms.partials + 2 * chunk.slot);
        const uint32_t last = static_cast<uint32_t>(chunk.count - 1);
        if (increment(args.norms.tickets + chunk.entry.row, last) != last) return;
        for (int thread = 0; thread < WARP_SIZE; ++thread) sum_chunks(args, chunk, thread, sums);
        add_halves(chunk.count, sums);
        store_sums(sums, args.norms.squares + 2 * chunk.entry.row);
      });
    }
  }
}

}  // namespace cuda
}  // namespace fused_warmup
