// Schedules as Python packs them.
#pragma once

#include <string>
#include <vector>

#include "math/schedule.h"

namespace fused_warmup {

// The segments of Schedule.pack(): records of 128 bytes whose tables lie among n_values values.
// Throws std::invalid_argument at anything else, which a kernel would read beyond.
std::vector<Segment> unpack_segments(const std::string& bytes, size_t n_values);

// Throws std::invalid_argument unless there are `size` indices and all lie in [least, end).
void check_indices(const char* name, const std::vector<int32_t>& indices, size_t size,
                   int32_t least, size_t end);

}  // namespace fused_warmup
