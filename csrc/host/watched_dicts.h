// Whether some of Python's dicts have changed, as Python itself tells it: none of them is walked.
//
// Python 3.11 gives a dict another version number with each change. From 3.12 on it calls a
// function at each change of a dict that is watched
// (https://docs.python.org/3/c-api/dict.html#c.PyDict_Watch), so that nothing of an unchanged dict
// is read at all. Where neither can be had, the answer is always that they may have changed: on
// free-threaded builds, in a second interpreter, and where other libraries have taken all of the
// eight functions that Python has room for (torch.compile takes one).
#pragma once

#include <Python.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace fused_warmup {

class WatchedDicts {
 public:
  // Changes of these keys, interned strings, do not count where Python tells which key changes:
  // from 3.12 on.
  explicit WatchedDicts(std::vector<PyObject*> but = {}) : but_(std::move(but)) {}
  ~WatchedDicts();
  WatchedDicts(const WatchedDicts&) = delete;
  WatchedDicts& operator=(const WatchedDicts&) = delete;

  // From now on, a change of any of these counts. Holds no reference to them.
  void watch(const std::vector<PyObject*>& dicts);

  // Has unchanged() answer false until the next watch().
  void distrust() { may_have_changed_ = true; }

  // False where one of them has changed since, or may have. The first has to be alive. Each of the
  // others has to be, too, or to be held by those before it for as long as these are unchanged.
  bool unchanged() const;

  // A number that no other contents have, of these dicts or of others; 0 where they have changed.
  uint64_t version() const { return unchanged() ? version_ : 0; }

  // Asks the processor for what unchanged() reads first.
  void prefetch() const;

 private:
  static int on_change(int event, PyObject* dict, PyObject* key);
  static int watcher();
  void forget();

  std::vector<PyObject*> dicts_, but_;
  std::vector<uint64_t> tags_;  // Python 3.11: the dicts' own version numbers
  uint64_t version_ = 0;
  bool may_have_changed_ = true;
  bool any_is_gone_ = false;  // some dict has been freed
};

}  // namespace fused_warmup
