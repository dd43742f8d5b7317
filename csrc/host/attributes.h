// What an optimizer's attributes, and torch's own settings, say of the step that comes.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <utility>

#include "host/watched_dicts.h"

namespace fused_warmup {

namespace py = pybind11;

class Attributes {
 public:
  Attributes();
  // Of torch's settings, where they are. Imports modules of torch.
  static void find_settings();

  // Looks at them, and runs no Python code. False, where anything else than the step is to be done,
  // or told by Python: hooks, a profiler's label, clipping, updates that were made in backward.
  bool is_step_alone(PyObject* optimizer);
  // Whether the first group's rate is the one that fused_warmup/_optim/two_rates.py looked at last.
  // groups_version: see Watch.
  bool is_rate_seen(uint64_t groups_version);

  // As they were found: the attributes' own, held by them.
  PyObject* state() const { return state_; }    // a dict
  PyObject* groups() const { return groups_; }  // a list
  bool write_grads() const { return write_grads_; }
  // GradScaler's scalars, tensors or None or a null, which are handed out and not kept.
  py::object take_grad_scale() { return std::move(grad_scale_); }
  py::object take_found_inf() { return std::move(found_inf_); }

  // Asks the processor for what is looked at first.
  void prefetch() const;

 private:
  bool look_up(PyObject* dict);
  bool look_up_scalars(PyObject* dict);

  PyObject* dict_ = nullptr;  // the attributes; not held, for they hold the step
  WatchedDicts lasting_;      // the attributes but GradScaler's, and the hooks among them
  WatchedDicts all_;          // all attributes
  PyObject *state_ = nullptr, *groups_ = nullptr, *two_rates_ = nullptr;
  py::object grad_scale_, found_inf_;
  bool write_grads_ = false;
  bool has_scalars_ = true;  // by all_
  uint64_t seen_at_ = 0;     // the version of the groups whose rate has been found seen
};

}  // namespace fused_warmup
