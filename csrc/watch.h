// Notices when Python-side structure changed since a plan was built: parameters added, state
// replaced by a loader, another schedule. Compares identities only; the references it keeps make
// identity proof enough.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

namespace fused_warmup {

namespace py = pybind11;

class Watch {
 public:
  Watch(const py::dict& state, const py::list& groups);
  bool unchanged(const py::dict& state, const py::list& groups) const;

  template <typename Visit>
  void for_each_object(Visit visit) {
    for (py::object& each : refs_) visit(each);
  }

 private:
  std::vector<py::object> refs_;  // may hold nulls: a key that was absent
};

}  // namespace fused_warmup
