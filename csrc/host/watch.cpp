#include "host/watch.h"

#include <utility>

namespace fused_warmup {
namespace {

constexpr int N_WATCHED = 5;

PyObject* const* watched_names() {
  static PyObject* const names[N_WATCHED] = {
      PyUnicode_InternFromString("step"), PyUnicode_InternFromString("momentum_buffer"),
      PyUnicode_InternFromString("first_step"), PyUnicode_InternFromString("ema"),
      PyUnicode_InternFromString("master_param")};
  return names;
}

// Names are interned nearly always, so identity answers first.
bool is_watched(PyObject* key) {
  PyObject* const* names = watched_names();
  for (int i = 0; i < N_WATCHED; ++i) {
    if (key == names[i]) return true;
  }
  if (!PyUnicode_Check(key)) return false;
  for (int i = 0; i < N_WATCHED; ++i) {
    if (PyUnicode_Compare(key, names[i]) == 0) return true;
  }
  return false;
}

// Calls see(object) for everything in the state whose identity the plan relies on, in a fixed
// order, until it returns false. PyDict_Next hashes nothing: torch.Tensor.__hash__ is a Python
// function.
template <typename See>
bool visit_state(PyObject* state, See see) {
  PyObject *param, *entry;
  Py_ssize_t position = 0;
  while (PyDict_Next(state, &position, &param, &entry)) {
    if (!see(param) || !see(entry)) return false;
    if (!PyDict_Check(entry)) continue;
    PyObject *key, *value;
    Py_ssize_t inner = 0;
    while (PyDict_Next(entry, &inner, &key, &value)) {
      if (is_watched(key) && !see(value)) return false;
    }
  }
  return true;
}

// What says of a group which tensors its parameters have beside the momentum.
template <typename See>
bool visit_extras(PyObject* group, See see) {
  static PyObject* const decay_name = PyUnicode_InternFromString("ema_decay");
  static PyObject* const schedule_name = PyUnicode_InternFromString("ema_schedule");
  static PyObject* const master_name = PyUnicode_InternFromString("master_weights");
  if (!see(PyDict_GetItem(group, master_name))) return false;
  PyObject* decay = PyDict_GetItem(group, decay_name);
  if (decay == nullptr || decay == Py_None) return see(Py_None);
  PyObject* schedule = PyDict_GetItem(group, schedule_name);
  return see(schedule == Py_None ? Py_True : schedule);  // not as without averages
}

PyObject* params_name() {
  static PyObject* const key = PyUnicode_InternFromString("params");
  return key;
}

template <typename See>
bool visit_params(PyObject* params, See see) {
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(params); ++i) {
    if (!see(PyList_GET_ITEM(params, i))) return false;
  }
  return true;
}

// Of each group so many objects, and then its parameters.
constexpr size_t N_SEEN_OF_GROUP = 6;

template <typename See>
bool visit_groups(PyObject* groups, See see) {
  static PyObject* const schedule_name = PyUnicode_InternFromString("schedule");
  static PyObject* const momentum_schedule_name = PyUnicode_InternFromString("momentum_schedule");
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(groups); ++i) {
    PyObject* group = PyList_GET_ITEM(groups, i);
    if (!see(group)) return false;  // before a key's own comparison can take it away
    PyObject* params = PyDict_GetItem(group, params_name());
    if (!see(params) || !see(PyDict_GetItem(group, schedule_name)) ||
        !see(PyDict_GetItem(group, momentum_schedule_name)) || !visit_extras(group, see)) {
      return false;
    }
    if (params == nullptr || !PyList_Check(params)) continue;
    if (!visit_params(params, see)) return false;
  }
  return true;
}

struct Collect {
  std::vector<py::object>* refs;
  bool operator()(PyObject* object) const {
    refs->push_back(py::reinterpret_borrow<py::object>(object));
    return true;
  }
};

struct Compare {
  const std::vector<py::object>* refs;
  size_t* i;
  bool operator()(PyObject* object) const {
    return *i < refs->size() && (*refs)[(*i)++].ptr() == object;
  }
};

}  // namespace

Watch::Watch(const py::dict& state, const py::list& groups) {
  note_state(state.ptr());
  visit_state(state.ptr(), Collect{&state_refs_});
  note_groups(groups.ptr());
  visit_groups(groups.ptr(), Collect{&group_refs_});
}

void Watch::note_state(PyObject* state) {
  state_ = state;
  std::vector<PyObject*> dicts{state};
  PyObject *param, *entry;
  Py_ssize_t position = 0;
  while (PyDict_Next(state, &position, &param, &entry)) {
    if (PyDict_Check(entry)) dicts.push_back(entry);
  }
  watched_state_.watch(dicts);
}

void Watch::note_groups(PyObject* groups) {
  std::vector<PyObject*> dicts;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(groups); ++i) {
    dicts.push_back(PyList_GET_ITEM(groups, i));
  }
  watched_groups_.watch(dicts);
  std::vector<Group> found;
  for (PyObject* dict : dicts) {
    if (!watched_groups_.unchanged()) break;
    PyObject* params = PyDict_GetItem(dict, params_name());
    found.push_back({dict, params != nullptr && PyList_Check(params) ? params : nullptr});
  }
  groups_ = std::move(found);
}

bool Watch::unchanged(const py::dict& state, const py::list& groups) {
  if (!groups_are_untouched(groups.ptr())) {
    // Before they are compared: a key's own comparison may change them.
    note_groups(groups.ptr());
    size_t i = 0;
    if (!visit_groups(groups.ptr(), Compare{&group_refs_, &i}) || i != group_refs_.size()) {
      watched_groups_.distrust();
      return false;
    }
  }
  if (state.ptr() == state_ && watched_state_.unchanged()) return true;
  size_t i = 0;
  if (!visit_state(state.ptr(), Compare{&state_refs_, &i}) || i != state_refs_.size()) return false;
  note_state(state.ptr());
  return true;
}

uint64_t Watch::groups_version(PyObject* groups) const {
  if (PyList_GET_SIZE(groups) != static_cast<Py_ssize_t>(groups_.size())) return 0;
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (PyList_GET_ITEM(groups, static_cast<Py_ssize_t>(i)) != groups_[i].dict) return 0;
  }
  return watched_groups_.version();
}

bool Watch::groups_are_untouched(PyObject* groups) const {
  if (groups_version(groups) == 0) return false;
  size_t i = 0;
  for (const Group& each : groups_) {
    i += N_SEEN_OF_GROUP;
    if (each.params != nullptr && !visit_params(each.params, Compare{&group_refs_, &i})) {
      return false;
    }
  }
  return i == group_refs_.size();
}

void Watch::prefetch() const {
  watched_groups_.prefetch();
  watched_state_.prefetch();
}

}  // namespace fused_warmup
