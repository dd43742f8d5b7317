// Notices when Python-side structure changed since a plan was built: parameters added, state
// replaced by a loader, another schedule. Compares identities only; the references it keeps make
// identity proof enough. What lies in dicts is compared where these may have changed.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "host/watched_dicts.h"

namespace fused_warmup {

namespace py = pybind11;

class Watch {
 public:
  Watch(const py::dict& state, const py::list& groups);
  // Runs no Python code.
  bool unchanged(const py::dict& state, const py::list& groups);

  // A number that stands for which groups these are and what their dicts hold, but not for what is
  // in their lists of parameters; 0 where some of it may have changed since unchanged() looked.
  uint64_t groups_version(PyObject* groups) const;

  // Asks the processor for what is looked at first.
  void prefetch() const;

  template <typename Visit>
  void for_each_object(Visit visit) {
    for (py::object& each : state_refs_) visit(each);
    for (py::object& each : group_refs_) visit(each);
  }

 private:
  struct Group {
    PyObject *dict, *params;  // params: a null if it is no list
  };

  bool groups_are_untouched(PyObject* groups) const;
  void note_groups(PyObject* groups);
  void note_state(PyObject* state);

  std::vector<py::object> state_refs_, group_refs_;  // may hold nulls: a key that was absent
  std::vector<Group> groups_;                        // held as long as watched_groups_ is unchanged
  PyObject* state_ = nullptr;
  WatchedDicts watched_state_, watched_groups_;
};

}  // namespace fused_warmup
