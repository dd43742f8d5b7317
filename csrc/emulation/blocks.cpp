// The device has fused multiply-adds; here the C library's stand in for them.
#define FW_HAS_FMA
#include "emulation/blocks.h"

namespace fused_warmup {
namespace cuda {
namespace {

// atomicInc: wraps to 0 when it has reached `limit`.
uint32_t increment(uint32_t* ticket, uint32_t limit) {
  const uint32_t old = *ticket;
  *ticket = old >= limit ? 0 : old + 1;
  return old;
}

template <typename DTypes>
void update_block(const LaunchArgs& args, int64_t t, int block, const Rates* rates) {
  for (int thread = 0; thread < BLOCK_SIZE; ++thread) {
    const int share = block * SHARES_PER_BLOCK + thread / SHARE_THREADS;
    update_share<DTypes>(args, t, share, thread % SHARE_THREADS, rates);
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
  }
}

}  // namespace

void run_blocks(const LaunchArgs& args, DTypes dtypes, const std::vector<int>& order) {
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
      compute_rates(args, own.t, thread, own.rates.data());
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

}  // namespace cuda
}  // namespace fused_warmup
