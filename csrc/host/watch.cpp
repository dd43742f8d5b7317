#include "host/watch.h"

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

template <typename See>
bool visit_groups(PyObject* groups, See see) {
  static PyObject* const params_name = PyUnicode_InternFromString("params");
  static PyObject* const schedule_name = PyUnicode_InternFromString("schedule");
  static PyObject* const momentum_schedule_name = PyUnicode_InternFromString("momentum_schedule");
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(groups); ++i) {
    PyObject* group = PyList_GET_ITEM(groups, i);
    if (!see(group)) return false;  // before a key's own comparison can take it away
    PyObject* params = PyDict_GetItem(group, params_name);
    if (!see(params) || !see(PyDict_GetItem(group, schedule_name)) ||
        !see(PyDict_GetItem(group, momentum_schedule_name)) || !visit_extras(group, see)) {
      return false;
    }
    if (params == nullptr || !PyList_Check(params)) continue;
    for (Py_ssize_t j = 0; j < PyList_GET_SIZE(params); ++j) {
      if (!see(PyList_GET_ITEM(params, j))) return false;
    }
  }
  return true;
}

// A number that changes whenever the dict does; 0 where this Python keeps none.
const uint64_t& version_of(PyObject* dict) {
#if PY_VERSION_HEX < 0x030C0000
  return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
#else
  static constexpr uint64_t none = 0;
  (void)dict;
  return none;
#endif
}

// Dicts lie scattered, and each would be waited for in turn: so many are asked for ahead.
constexpr size_t AHEAD = 16;

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
  visit_state(state.ptr(), Collect{&state_refs_});
  visit_groups(groups.ptr(), Collect{&group_refs_});
  PyObject *param, *entry;
  Py_ssize_t position = 0;
  while (PyDict_Next(state.ptr(), &position, &param, &entry)) {
    if (PyDict_Check(entry)) entries_.push_back(entry);
  }
  note_versions(state.ptr());
}

void Watch::note_versions(PyObject* state) const {
  versions_.assign(1, version_of(state));
  for (PyObject* entry : entries_) versions_.push_back(version_of(entry));
}

// The entries are those of a state dict of this version, which therefore keeps them alive.
bool Watch::state_is_untouched(PyObject* state) const {
  if (versions_[0] == 0 || versions_[0] != version_of(state)) return false;
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (i + AHEAD < entries_.size()) __builtin_prefetch(&version_of(entries_[i + AHEAD]));
    if (versions_[i + 1] != version_of(entries_[i])) return false;
  }
  return true;
}

bool Watch::unchanged(const py::dict& state, const py::list& groups) const {
  size_t i = 0;
  if (!visit_groups(groups.ptr(), Compare{&group_refs_, &i}) || i != group_refs_.size()) {
    return false;
  }
  if (state_is_untouched(state.ptr())) return true;
  i = 0;
  if (!visit_state(state.ptr(), Compare{&state_refs_, &i}) || i != state_refs_.size()) return false;
  note_versions(state.ptr());
  return true;
}

}  // namespace fused_warmup
