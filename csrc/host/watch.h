// Notices when Python-side structure changed since a plan was built: parameters added, state
// replaced by a loader, another schedule. Compares identities only; the references it keeps make
// identity proof enough.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

namespace fused_warmup {

namespace py = pybind11;

class Watch {
 public:
  Watch(const py::dict& state, const py::list& groups);
  // Runs no Python code.
  bool unchanged(const py::dict& state, const py::list& groups) const;

  template <typename Visit>
  void for_each_object(Visit visit) {
    for (py::object& each : state_refs_) visit(each);
    for (py::object& each : group_refs_) visit(each);
  }

 private:
  bool state_is_untouched(PyObject* state) const;
  void note_versions(PyObject* state) const;

  std::vector<py::object> state_refs_, group_refs_;  // may hold nulls: a key that was absent
  // Versions of the state's dicts when they were last found unchanged, where Python keeps such.
  std::vector<PyObject*> entries_;
  mutable std::vector<uint64_t> versions_;
};

}  // namespace fused_warmup
