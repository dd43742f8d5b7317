#include "world.h"

#include <cstring>

namespace {

// Every world has a device of its own: what is kept for each device is made anew.
int n_devices = 0;

const size_t SIZES[] = {1, 63, 1091, 640};

// In the order of lars.h, of a single chunk.
double sum_of_squares(const std::vector<float>& values) {
  double lanes[SUM_LANES] = {};
  for (size_t i = 0; i < values.size(); ++i) {
    lanes[i % SUM_LANES] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  return sum_of_lanes(lanes, static_cast<int64_t>(values.size()));
}

}  // namespace

void* FakeMemory::allocate(size_t size, void* stream) {
  const auto of = static_cast<cudaStream_t>(stream);
  if (fake::counts_and_fails("allocate") || is_full) {
    throw cuda::OutOfMemory("allocate failed: out of memory");
  }
  if (fake::unsafe("allocate") != cudaSuccess) throw std::runtime_error("allocate failed");
  if (fake::is_capturing(of)) fake::violations().push_back("memory from the pool of a capture");
  void* const data = std::malloc(size);
  std::memset(data, 0xA5, size);
  streams_[data] = of;
  return data;
}

void FakeMemory::free(void* data) noexcept {
  fake::enqueue(streams_.at(data), [data] { std::free(data); });
  streams_.erase(data);
}

World::World(size_t n_groups, bool lars)
    : device(++n_devices),
      values_{0.25, 0.5, 0.75, 1.0},
      lars_(lars),
      squares_(2 * std::size(SIZES)),
      partials_(4 * std::size(SIZES)),
      tickets_(std::size(SIZES)) {
  for (size_t i = 0; i < std::size(SIZES); ++i) {
    Tensor tensor;
    for (size_t k = 0; k < SIZES[i]; ++k) {
      tensor.param.push_back(static_cast<float>(k % 17) * 0.125f - 1.0f);
    }
    tensor.momentum_buffer.resize(SIZES[i]);
    tensors_.push_back(tensor);
    for (int set = 0; set < 2; ++set) {
      std::vector<float> grad;
      for (size_t k = 0; k < SIZES[i]; ++k) {
        grad.push_back(static_cast<float>((k + i + 7 * static_cast<size_t>(set)) % 11) - 5.0f);
      }
      grads_[set].push_back(grad);
    }
  }
  twins_ = tensors_;
  active_.assign(tensors_.size(), true);
  Segment table{};
  table.kind = TABLE;
  table.stair = 1;
  table.table_size = static_cast<int64_t>(values_.size());
  table.length = static_cast<double>(values_.size());
  segments_.push_back(table);
  schedules_.push_back(make_schedule(segments_.data(), 1, values_.data(), table.table_size));
  Group group{};
  group.momentum = 0.9;
  group.momentum_schedule = -1;
  group.lr_dtype = DType::FLOAT64;
  group.adapt = group.lr_in_momentum = lars;
  group.trust_coefficient = 0.1;
  groups_.assign(n_groups, group);
  lr_.resize(n_groups);
  set_lr(0.1, false);
  fake::clear_log();
}

World::~World() {
  launcher.reset();
  for (fake::Graph* graph : graphs_) fake::destroy_graph(graph);
  for (cudaStream_t each : streams_) fake::destroy_stream(each);
}

cudaStream_t World::stream() {
  streams_.push_back(fake::make_stream(device));
  return streams_.back();
}

void World::use(std::vector<bool> active) {
  active_ = std::move(active);
  ++generation_;
}

void World::set_lr(double lr, bool in_memory) {
  lr_in_memory_ = in_memory ? std::make_shared<double>(lr) : nullptr;
  for (Group& group : groups_) {
    group.lr = lr;
    group.lr_ptr = lr_in_memory_.get();
  }
}

std::vector<TensorEntry> World::entries() {
  std::vector<TensorEntry> entries;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (!active_[i]) continue;
    TensorEntry entry{};
    entry.param = tensors_[i].param.data();
    entry.momentum_buffer = tensors_[i].momentum_buffer.data();
    entry.grad = grads_[gradients_][i].data();
    entry.n_elements = static_cast<int64_t>(SIZES[i]);
    entry.row = static_cast<int32_t>(i);
    entries.push_back(entry);
  }
  return entries;
}

Norms World::norms() { return {squares_.data(), partials_.data(), tickets_.data()}; }

void World::attempt(const std::function<void()>& calls) {
  fake::arm();
  try {
    calls();
    fake::disarm();
    return;
  } catch (const Failure&) {
    fake::disarm();
    throw;
  } catch (const std::exception& error) {
    fake::disarm();
    const std::string words = error.what();
    require(++n_errors == 1 && fake::fault_struck(), "an error without a fault: " + words);
    require(words.find(" failed") != std::string::npos, "words that name no call: " + words);
    require(fake::last_error() == cudaSuccess, "an error was left for somebody else: " + words);
  }
  fake::heal();
  check("after the error");
  fake::arm();
  calls();
  fake::disarm();
}

void World::make_launcher() {
  attempt([this] {
    launcher = std::make_unique<cuda::Launcher>(device, tensors_.size(), groups_, schedules_,
                                                memory, lars_);
  });
}

void World::try_step(cudaStream_t stream) {
  const std::vector<TensorEntry> now = entries();
  while (!launcher->prepare(stream)) launcher->wait();
  launcher->stage({now, {}, groups_, schedules_, generation_});
  StepScalars scalars{};
  scalars.t = &t_;
  scalars.lr = lr_.data();
  scalars.advance = true;
  if (measures_first) launcher->launch_norms(scalars, norms());
  launcher->launch(scalars, norms(), measures_first,
                   launcher->is_capturing() ? lr_in_memory_ : nullptr);
}

void World::update_twin() {
  const Rates rates = rates_at(groups_[0], schedules_.data(), twin_t_);
  const struct {
    bool unscale = false, maximize = false, weight_decay = false, momentum = true, nesterov = false;
  } options;
  for (size_t i = 0; i < twins_.size(); ++i) {
    if (!active_[i]) continue;
    const auto update = [&](const auto& h) {
      for (size_t k = 0; k < SIZES[i]; ++k) {
        float grad = grads_[gradients_][i][k];
        sgd_update(twins_[i].param[k], grad, twins_[i].momentum_buffer[k], h, options);
      }
    };
    const double squares[] = {sum_of_squares(twins_[i].param),
                              sum_of_squares(grads_[gradients_][i])};
    if (lars_) {
      update(make_hyper<float>(groups_[0], rates, false, 1.0f, squares));
    } else {
      update(make_hyper<float>(groups_[0], rates, false, 1.0f));
    }
  }
  ++twin_t_;
}

void World::step(cudaStream_t stream) {
  attempt([&] { try_step(stream); });
  update_twin();
}

fake::Graph* World::capture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  fake::begin_capture(stream, mode);
  fake::arm();
  std::string words;
  try {
    try_step(stream);
  } catch (const Failure&) {
    throw;
  } catch (const std::exception& error) {
    words = error.what();
  }
  fake::disarm();
  fake::Graph* const graph = fake::end_capture(stream);
  if (!words.empty()) {
    require(++n_errors == 1 && fake::fault_struck(), "an error without a fault: " + words);
    require(words.find(" failed") != std::string::npos, "words that name no call: " + words);
    fake::heal();
    if (graph != nullptr) fake::destroy_graph(graph);
    check("after the error in a capture");
    return capture(stream, mode);
  }
  require(graph != nullptr, "the capture was invalidated");
  require(fake::n_nodes(graph) == (lars_ ? 2 : 1), "more than the kernels was captured");
  graphs_.push_back(graph);
  recorded_[graph] = {gradients_, active_, groups_, lr_in_memory_};
  lr_in_memory_ = nullptr;  // as a user who gives the group another rate
  recorded_[graph].lr = nullptr;
  return graph;
}

void World::replay(fake::Graph* graph, cudaStream_t stream) {
  fake::replay(graph, stream);
  fake::run(stream);
  const Recorded now{gradients_, active_, groups_, nullptr};
  const Recorded& then = recorded_.at(graph);
  gradients_ = then.gradients;
  active_ = then.active;
  groups_ = then.groups;
  update_twin();
  gradients_ = now.gradients;
  active_ = now.active;
  groups_ = now.groups;
}

void World::destroy(fake::Graph* graph) {
  graphs_.erase(std::find(graphs_.begin(), graphs_.end(), graph));
  recorded_.erase(graph);
  fake::destroy_graph(graph);
}

void World::update_captured(cudaStream_t stream) {
  attempt([&] { launcher->update_captured(groups_, stream, lr_in_memory_); });
  for (auto& each : recorded_) each.second.groups = groups_;
  lr_in_memory_ = nullptr;
}

void World::destroy_launcher() {
  fake::arm();
  launcher.reset();
  fake::disarm();
  fake::heal();
}

void World::compare(const std::string& when) {
  require(t_ == twin_t_,
          when + ": the count is " + std::to_string(t_) + ", not " + std::to_string(twin_t_));
  for (size_t i = 0; i < tensors_.size(); ++i) {
    require(tensors_[i].param == twins_[i].param &&
                tensors_[i].momentum_buffer == twins_[i].momentum_buffer,
            when + ": tensor " + std::to_string(i) + " differs");
  }
}

void World::check(const std::string& when) {
  fake::run_all();
  compare(when);
}

void World::check_clean(bool may_give_up) {
  for (const std::string& each : fake::violations()) throw Failure("rule broken: " + each);
  launcher.reset();
  while (!graphs_.empty()) destroy(graphs_.back());
  fake::run_all();
  {  // its end frees what others have left behind
    World other;
    other.make_launcher();
  }
  fake::run_all();
  require(memory->n_live() == 0, std::to_string(memory->n_live()) + " blocks are not freed");
  const std::string left = fake::left_over();
  require(left.empty() || (may_give_up && left == "1 page-locked buffers "),
          left + "are not freed");
  fake::free_pinned();
}
