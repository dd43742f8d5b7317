#include "host/watched_dicts.h"

#include <algorithm>
#include <unordered_map>

namespace fused_warmup {
namespace {

uint64_t next_version() {
  static uint64_t last = 0;  // guarded by Python's lock
  return ++last;
}

// Python 3.13.0 does not tell of a change of an object's attributes, which lie in the object and
// not in its dict: https://github.com/python/cpython/issues/125608
bool is_told(PyObject* dict) {
  return Py_Version >> 8 != 0x030D00 || reinterpret_cast<PyDictObject*>(dict)->ma_values == nullptr;
}

bool can_be_watched(const std::vector<PyObject*>& objects) {
  return std::all_of(objects.begin(), objects.end(), [](PyObject* each) {
    return each != nullptr && PyDict_Check(each) && is_told(each);
  });
}

}  // namespace

#if PY_VERSION_HEX < 0x030C0000

namespace {

// Dicts lie scattered, and each would be waited for in turn: so many are asked for ahead.
constexpr size_t AHEAD = 16;

const uint64_t& tag_of(PyObject* dict) {
  return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
}

}  // namespace

WatchedDicts::~WatchedDicts() = default;

void WatchedDicts::watch(const std::vector<PyObject*>& dicts) {
  may_have_changed_ = !can_be_watched(dicts);
  if (may_have_changed_) return;
  dicts_ = dicts;
  tags_.clear();
  for (PyObject* each : dicts_) tags_.push_back(tag_of(each));
  version_ = next_version();
}

bool WatchedDicts::unchanged() const {
  if (may_have_changed_) return false;
  for (size_t i = 0; i < dicts_.size(); ++i) {
    if (i + AHEAD < dicts_.size()) __builtin_prefetch(&tag_of(dicts_[i + AHEAD]));
    if (tags_[i] != tag_of(dicts_[i])) return false;
  }
  return true;
}

void WatchedDicts::prefetch() const {
  for (size_t i = 0; i < std::min(AHEAD, dicts_.size()); ++i) {
    __builtin_prefetch(&tag_of(dicts_[i]));
  }
}

#elif defined(Py_GIL_DISABLED)

WatchedDicts::~WatchedDicts() = default;
void WatchedDicts::watch(const std::vector<PyObject*>&) {}
bool WatchedDicts::unchanged() const { return false; }
void WatchedDicts::prefetch() const {}

#else

namespace {

// Who asks for a dict. Never freed, as dicts go until Python itself has gone. A dict stays watched
// when nobody asks for it any more: whether it is still there to be told otherwise is not known
// while Python ends.
auto& askers() {
  static auto& all = *new std::unordered_multimap<PyObject*, WatchedDicts*>();
  return all;
}

}  // namespace

// Python calls this before it makes the change, and runs no code of others in between.
int WatchedDicts::on_change(int event, PyObject* dict, PyObject* key) {
  const auto [begin, end] = askers().equal_range(dict);
  for (auto each = begin; each != end; ++each) {
    WatchedDicts& asker = *each->second;
    if (std::find(asker.but_.begin(), asker.but_.end(), key) != asker.but_.end()) continue;
    asker.may_have_changed_ = true;
    asker.any_is_gone_ |= event == PyDict_EVENT_DEALLOCATED;
  }
  if (event == PyDict_EVENT_DEALLOCATED) askers().erase(begin, end);
  return 0;
}

// Python's number for on_change(), negative where it has none to give. Each interpreter has its
// own; the first to ask is served.
int WatchedDicts::watcher() {
  static PyInterpreterState* const served = PyInterpreterState_Get();
  static const int id = [] {
    const int given = PyDict_AddWatcher([](PyDict_WatchEvent event, PyObject* dict, PyObject* key,
                                           PyObject*) { return on_change(event, dict, key); });
    if (given < 0) PyErr_Clear();
    return given;
  }();
  return PyInterpreterState_Get() == served ? id : -1;
}

WatchedDicts::~WatchedDicts() { forget(); }

void WatchedDicts::forget() {
  for (PyObject* each : dicts_) {
    const auto [begin, end] = askers().equal_range(each);
    for (auto asker = begin; asker != end;) {
      asker = asker->second == this ? askers().erase(asker) : std::next(asker);
    }
  }
  dicts_.clear();
}

void WatchedDicts::watch(const std::vector<PyObject*>& dicts) {
  if (any_is_gone_ || dicts != dicts_) {
    forget();
    may_have_changed_ = true;
    if (watcher() < 0 || !can_be_watched(dicts)) return;
    for (PyObject* each : dicts) {
      if (PyDict_Watch(watcher(), each) < 0) return PyErr_Clear();
    }
    dicts_ = dicts;
    for (PyObject* each : dicts_) askers().emplace(each, this);
    any_is_gone_ = false;
  }
  may_have_changed_ = false;
  version_ = next_version();
}

bool WatchedDicts::unchanged() const { return !may_have_changed_; }

void WatchedDicts::prefetch() const {}

#endif

}  // namespace fused_warmup
