// A launch of one variant of the kernels, laid out for whoever runs it: one group, plain SGD.
#include <cstring>

#include "cuda/tables.h"

using namespace fused_warmup;

namespace {

struct Launch {
  cuda::Tables tables;
  StepScalars step{};
  uint32_t* ticket = nullptr;
};

}  // namespace

extern "C" {

int block_size() { return cuda::BLOCK_SIZE; }
int args_size() { return sizeof(cuda::LaunchArgs); }

// params, grads and momentum_buffers: n addresses each. t, lr (out) and ticket lie where the kernel
// runs.
Launch* make_launch(int n, void* const* params, void* const* grads, void* const* momentum_buffers,
                    const int64_t* sizes, int param_dtype, int grad_dtype, double base_lr,
                    double momentum, double weight_decay, int64_t* t, double* lr,
                    uint32_t* ticket) {
  Launch* made = new Launch;
  made->step.t = t;
  made->step.lr = lr;
  made->step.advance = true;
  made->ticket = ticket;
  Group group{};
  group.lr = base_lr;
  group.momentum = momentum;
  group.weight_decay = weight_decay;
  group.schedule = group.momentum_schedule = -1;
  std::vector<TensorEntry> entries(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    entries[static_cast<size_t>(i)] = {params[i],
                                       grads[i],
                                       momentum_buffers[i],
                                       nullptr,
                                       sizes[i],
                                       static_cast<DType>(param_dtype),
                                       static_cast<DType>(grad_dtype),
                                       0,
                                       0};
  }
  made->tables.build(entries, {}, {group}, {}, 1);
  return made;
}
void free_launch(Launch* launch) { delete launch; }

int dtypes(const Launch* launch) { return static_cast<int>(launch->tables.dtypes()); }
int shared_bytes(const Launch* launch) { return static_cast<int>(launch->tables.shared_bytes()); }
int n_blocks(const Launch* launch) { return launch->tables.n_blocks(); }

// Cuts the work anew, for a device that holds so many blocks at a time. Returns the size of the
// tables in bytes.
int64_t cut(Launch* launch, int resident_blocks) {
  cuda::Tables& tables = launch->tables;
  const char* bytes = tables.data();
  const auto* entries = reinterpret_cast<const TensorEntry*>(bytes);
  const auto* groups = reinterpret_cast<const Group*>(bytes + tables.groups_at());
  const std::vector<TensorEntry> own(entries, entries + tables.n_entries());
  const std::vector<Group> own_groups(groups, groups + tables.n_groups());
  tables.build(own, {}, own_groups, {}, resident_blocks);
  return static_cast<int64_t>(tables.size());
}

// Writes the tables, which will lie at `base`, and the kernel's argument.
void lay_out(Launch* launch, char* base, char* tables, char* args) {
  const cuda::LaunchArgs own = launch->tables.args(base, launch->step, launch->ticket);
  std::memcpy(tables, launch->tables.data(), launch->tables.size());
  std::memcpy(args, &own, sizeof own);
}
}
