#include "triton/layout.h"

#include <cstddef>
#include <initializer_list>
#include <utility>

#include "launch/line.h"

namespace fused_warmup {
namespace triton {
namespace {

namespace py = pybind11;

py::dict table(std::initializer_list<std::pair<const char*, int64_t>> named) {
  py::dict table;
  for (const auto& [name, value] : named) table[name] = value;
  return table;
}

#define FIELD(type, field) {#field, static_cast<int64_t>(offsetof(type, field))}
#define CODE(scope, name) {#name, static_cast<int64_t>(scope name)}

}  // namespace

py::dict layout() {
  py::dict layout;
  layout["TensorEntry"] = table({
      {"size", sizeof(TensorEntry)},
      FIELD(TensorEntry, param),
      FIELD(TensorEntry, grad),
      FIELD(TensorEntry, momentum_buffer),
      FIELD(TensorEntry, first_step),
      FIELD(TensorEntry, n_elements),
      FIELD(TensorEntry, param_dtype),
      FIELD(TensorEntry, grad_dtype),
      FIELD(TensorEntry, group),
      FIELD(TensorEntry, row),
  });
  layout["Extras"] = table({
      {"size", sizeof(Extras)},
      FIELD(Extras, ema),
      FIELD(Extras, rounded),
      FIELD(Extras, rounded_dtype),
  });
  layout["Group"] = table({
      {"size", sizeof(Group)},
      FIELD(Group, lr),
      FIELD(Group, lr_ptr),
      FIELD(Group, weight_decay),
      FIELD(Group, momentum),
      FIELD(Group, dampening),
      FIELD(Group, ema_decay),
      FIELD(Group, ema_every),
      FIELD(Group, ema_start),
      FIELD(Group, lr_dtype),
      FIELD(Group, schedule),
      FIELD(Group, momentum_schedule),
      FIELD(Group, ema_schedule),
      FIELD(Group, nesterov),
      FIELD(Group, maximize),
      FIELD(Group, adapt),
      FIELD(Group, trust_clip),
      FIELD(Group, lr_in_momentum),
      FIELD(Group, trust_coefficient),
      FIELD(Group, trust_eps),
  });
  layout["Share"] = table({{"size", sizeof(Share)}, FIELD(Share, begin), FIELD(Share, entry)});
  layout["Schedule"] = table({
      {"size", sizeof(Schedule)},
      FIELD(Schedule, segments),
      FIELD(Schedule, n_segments),
      FIELD(Schedule, values),
  });
  layout["Segment"] = table({
      {"size", sizeof(Segment)},
      FIELD(Segment, kind),
      FIELD(Segment, past_end),
      FIELD(Segment, start),
      FIELD(Segment, origin),
      FIELD(Segment, stair),
      FIELD(Segment, period),
      FIELD(Segment, table_size),
      FIELD(Segment, table_offset),
      FIELD(Segment, shift),
      FIELD(Segment, length),
      FIELD(Segment, a),
      FIELD(Segment, b),
      FIELD(Segment, p),
      FIELD(Segment, k),
      FIELD(Segment, m),
      FIELD(Segment, log_cycle_gain),
  });
  layout["DType"] = table({CODE(DType::, FLOAT32), CODE(DType::, FLOAT64), CODE(DType::, BFLOAT16),
                           CODE(DType::, FLOAT16)});
  layout["Kind"] = table({CODE(, POLY), CODE(, COS), CODE(, EXP), CODE(, POW), CODE(, TABLE)});
  layout["constants"] = table({CODE(, HOLD), CODE(, FIRST_STEP_NEVER), CODE(, SUM_LANES),
                               CODE(, MIN_CHUNK), CODE(, MAX_CHUNKS)});
  return layout;
}

}  // namespace triton
}  // namespace fused_warmup
