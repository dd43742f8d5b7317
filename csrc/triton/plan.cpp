#include "triton/plan.h"

namespace fused_warmup {
namespace {

uintptr_t address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

}  // namespace

void TritonPlan::launch(bool measures, bool updates, bool advance) {
  auto& tables = tables_.cast<triton::Tables&>();
  tables.refresh(entries_, extras_, groups_, schedules_, generation_, max_shares_);
  const bool writes_grads = step_.write_grads && step_.grad_scale != nullptr;
  py::object norms = py::none();
  if (is_lars()) {
    norms =
        py::make_tuple(address(norms_.squares), address(norms_.partials), address(norms_.tickets));
  }
  const py::object captured =
      launcher_(tables_, tables.content(), tables.n_shares(), tables.dtype_pairs(), writes_grads,
                tables.has_extras(), address(step_.t), address(step_.lr), address(step_.found_inf),
                address(step_.grad_scale), advance ? 1 : 0, norms, measures, updates);
  if (captured.ptr() == Py_True) hold_scalars();
}

void TritonPlan::hold_scalars() {
  for (const py::object& each : scalar_objects()) {
    if (each) held_by_graphs_.append(each);
  }
}

bool TritonPlan::update_captured(const py::list& groups) {
  if (!read_groups(groups) || !look_at_rates()) return false;
  launcher_.attr("update_captured")(
      py::bytes(reinterpret_cast<const char*>(groups_.data()), groups_.size() * sizeof(Group)));
  hold_scalars();
  return true;
}

}  // namespace fused_warmup
