// What a user may do with the launcher, each once without a fault and then with every call of it
// failing in turn, alone or with all that come after it until the error has been raised:
//   scenarios            names them
//   scenarios NAME       runs one; prints how many calls were made to fail
//   scenarios all        runs all; prints which calls were made to fail
#include <cstdio>
#include <cstring>

#include "world.h"

namespace {

size_t count(const char* name) {
  size_t n = 0;
  for (const std::string& each : fake::log()) n += each == name;
  return n;
}

void first_step(World& world) {
  world.make_launcher();
  world.step(world.stream());
}

void steady(World& world) {
  const cudaStream_t stream = world.stream();
  fake::make_current(world.device);
  world.make_launcher();
  for (int i = 0; i < 3; ++i) world.step(stream);
  fake::clear_log();
  world.step(stream);
  require(count("cudaLaunchKernel") >= 1, "no launch");
  require(world.n_errors > 0 || count("cudaMemcpyAsync") == 0, "a steady step copies");
  require(world.n_errors > 0 || fake::log().size() <= 4, "a steady step makes more than 4 calls");
}

// The device is far behind: all page-locked buffers are in use.
void changed_options(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  for (int i = 0; i < 7; ++i) {
    world.set_lr(0.1 / (i + 1), false);
    world.step(stream);
  }
}

void alternating_gradients(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  for (size_t i = 0; i < 6; ++i) {
    world.use_gradients(i % 2);
    world.step(stream);
  }
  fake::clear_log();
  for (size_t i = 0; i < 4; ++i) {
    world.use_gradients(i % 2);
    world.step(stream);
  }
  require(world.n_errors > 0 || count("cudaMemcpyAsync") == 0, "both places are known by now");
}

void changed_set(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  world.use({true, false, true, false});
  world.step(stream);
  world.use({true, true, true, true});
  world.step(stream);
  world.use({false, false, false, true});
  world.step(stream);
}

// More than may keep their tables. Each has work under way when the next begins.
void many_streams(World& world) {
  world.make_launcher();
  cudaStream_t streams[6];
  for (cudaStream_t& each : streams) each = world.stream();
  for (int round = 0; round < 2; ++round) {
    for (cudaStream_t each : streams) {
      world.use_gradients(static_cast<size_t>(round));
      world.step(each);
      fake::run(each);  // the next stream waits for this one, as its user has to see to
    }
  }
}

void second_stream(World& world) {
  world.make_launcher();
  const cudaStream_t first = world.stream(), second = world.stream();
  world.step(first);
  world.use_gradients(1);
  world.step(second);  // the first has not begun: its tables must not change
  fake::run(first);
  fake::run(second);
  world.step(first);
}

void capture_and_replay(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  world.step(stream);
  fake::Graph* const graph = world.capture(stream);
  world.check("after the capture");
  for (int i = 0; i < 3; ++i) world.replay(graph, stream);
  world.use_gradients(1);
  world.step(stream);
  world.replay(graph, stream);
  world.destroy(graph);
  world.replay(world.capture(stream), stream);
}

void capture_first(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  world.replay(world.capture(stream), stream);
  world.step(stream);
}

void updated_graphs(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  world.step(stream);
  fake::Graph* graphs[5];  // more than there are buffers
  for (fake::Graph*& each : graphs) each = world.capture(stream);
  for (const bool in_memory : {false, true, true}) {
    world.set_lr(in_memory ? 0.05 : 0.01, in_memory);
    world.update_captured(stream);
    for (fake::Graph* each : graphs) world.replay(each, stream);
  }
}

void lr_in_memory(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  world.set_lr(0.3, true);
  fake::Graph* const graph = world.capture(stream);
  world.set_lr(0.1, false);
  for (int i = 0; i < 2; ++i) world.replay(graph, stream);
}

void update_in_capture(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  fake::Graph* const graph = world.capture(stream);
  world.set_lr(0.2, false);
  fake::begin_capture(stream, cudaStreamCaptureModeGlobal);
  std::string words;
  try {
    world.launcher->update_captured({}, stream, nullptr);
  } catch (const std::exception& error) {
    words = error.what();
  }
  require(words.find("between replays") != std::string::npos, "no error: " + words);
  fake::Graph* const other = fake::end_capture(stream);
  require(other != nullptr && fake::n_nodes(other) == 0, "the capture noticed it");
  fake::destroy_graph(other);
  world.update_captured(stream);
  world.replay(graph, stream);
}

void launcher_goes_first(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  world.step(stream);
  fake::Graph* const graph = world.capture(stream);
  world.set_lr(0.2, false);
  world.update_captured(stream);
  world.destroy_launcher();  // with a copy and a step under way
  world.replay(graph, stream);
  world.make_launcher();
  world.step(stream);
  world.replay(graph, stream);
}

// Nothing is under way: what it has got is freed at once.
void idle_launcher_goes(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  world.step(stream);
  fake::run_all();
  world.destroy_launcher();
}

// `rest` inside a capture of this thread's or of another's, which must not be spoiled.
void inside_capture(World& world, int thread, const std::function<void()>& rest) {
  const cudaStream_t captured = world.stream();
  fake::as_thread(thread);
  fake::begin_capture(captured, cudaStreamCaptureModeGlobal);
  fake::as_thread(0);
  rest();
  fake::as_thread(thread);
  fake::Graph* const graph = fake::end_capture(captured);
  fake::as_thread(0);
  require(graph != nullptr, "the capture has been spoiled");
  require(fake::n_nodes(graph) == 0, "something was captured that is not part of it");
  fake::destroy_graph(graph);
}

void whole_life_in_a_capture(World& world, int thread) {
  inside_capture(world, thread, [&] {
    changed_options(world);
    fake::run_all();
    world.use_gradients(1);
    const cudaStream_t stream = world.stream();
    world.step(stream);
    world.destroy_launcher();
  });
}
void in_a_capture_of_this_thread(World& world) { whole_life_in_a_capture(world, 0); }
void in_a_capture_of_another_thread(World& world) { whole_life_in_a_capture(world, 1); }

void captured_launcher_goes_in_a_capture(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  fake::Graph* const graph = world.capture(stream);
  world.destroy(graph);
  inside_capture(world, 0, [&] { world.destroy_launcher(); });
}

void out_of_memory(World& world) {
  const cudaStream_t stream = world.stream();
  world.make_launcher();
  world.memory->is_full = true;
  bool raised = false;
  try {
    world.launcher->prepare(stream);
  } catch (const cuda::OutOfMemory&) {
    raised = true;
  }
  require(raised, "no OutOfMemory");
  world.memory->is_full = false;
  world.step(stream);
}

// More groups than fit the shared memory that a kernel has without asking.
void many_groups(World& world) {
  World large(3200);
  const cudaStream_t stream = large.stream();
  large.make_launcher();
  large.step(stream);
  large.check("3200 groups");
  world.n_errors = large.n_errors;
}

// Two launches over the same tables, the first of which may have been made by itself.
void lars(World& world) {
  World layers(1, true);
  const cudaStream_t stream = layers.stream();
  layers.make_launcher();
  for (size_t i = 0; i < 4; ++i) {
    layers.measures_first = i % 2 == 1;
    layers.use_gradients(i / 2);
    layers.step(stream);
    layers.check("LARS");
  }
  for (const bool measures_first : {false, true}) {
    layers.measures_first = measures_first;
    fake::Graph* const graph = layers.capture(stream);
    for (int i = 0; i < 2; ++i) layers.replay(graph, stream);
    layers.check("LARS in a graph");
  }
  world.n_errors = layers.n_errors;
}

// Without a step before it that has loaded the kernels.
void lars_capture_first(World& world) {
  World layers(1, true);
  const cudaStream_t stream = layers.stream();
  layers.make_launcher();
  layers.replay(layers.capture(stream), stream);
  layers.check("LARS in a graph");
  world.n_errors = layers.n_errors;
}

// Every call has to find the launcher's device, and leave the thread on its own.
void from_another_device(World& world) {
  const int other = 1'000'000 + world.device;
  fake::destroy_stream(fake::make_stream(other));  // its context is there now
  const auto on_other = [&] {
    require(fake::fault_struck() || fake::current_device() == other, "another device is current");
    fake::make_current(other);
  };
  const cudaStream_t stream = world.stream();
  fake::make_current(other);
  world.make_launcher();
  on_other();
  for (size_t i = 0; i < 2; ++i) {
    world.use_gradients(i);
    world.step(stream);
    on_other();
  }
  fake::Graph* const graph = world.capture(stream);
  on_other();
  world.set_lr(0.2, false);
  world.update_captured(stream);
  on_other();
  world.replay(graph, stream);
  require(cuda::device_obstacle(world.device).empty(), "an obstacle");
  on_other();
  world.destroy_launcher();
  on_other();
}

// Words, and never an error: the next backend serves then.
void old_device(World& world) {
  fake::arm();
  const std::string words = cuda::device_obstacle(world.device);
  fake::disarm();
  require(fake::fault_struck() || words.empty(), "an obstacle without a fault: " + words);
  require(!words.empty() || fake::failed_call() != "cudaFuncGetAttributes", "no obstacle");
  require(fake::last_error() == cudaSuccess, "an error was left for somebody else");
  fake::heal();
  world.make_launcher();
}

// What is said where the runtime calls the driver's version insufficient.
void with_driver(World& world, int version, const std::string& expected) {
  fake::set_driver_version(version);
  fake::arm();
  const std::string words = cuda::unavailable_reason();
  fake::disarm();
  if (!fake::fault_struck()) {
    require(words.empty(), "a reason without a fault: " + words);
  } else if (fake::failed_call() == "cudaGetDeviceCount") {
    require(words.find(expected) == 0 || words == "no CUDA driver", words);
  }
  require(fake::last_error() == cudaSuccess, "an error was left for somebody else");
  fake::heal();
  world.make_launcher();
}
void missing_driver(World& world) { with_driver(world, 0, "no CUDA driver"); }
void old_driver(World& world) { with_driver(world, 11080, "the CUDA driver serves CUDA 11.8, "); }

const struct {
  const char* name;
  void (*run)(World&);
} SCENARIOS[] = {
#define SCENARIO(name) {#name, name}
    SCENARIO(first_step),
    SCENARIO(steady),
    SCENARIO(changed_options),
    SCENARIO(alternating_gradients),
    SCENARIO(changed_set),
    SCENARIO(many_streams),
    SCENARIO(second_stream),
    SCENARIO(capture_and_replay),
    SCENARIO(capture_first),
    SCENARIO(updated_graphs),
    SCENARIO(lr_in_memory),
    SCENARIO(update_in_capture),
    SCENARIO(launcher_goes_first),
    SCENARIO(idle_launcher_goes),
    SCENARIO(in_a_capture_of_this_thread),
    SCENARIO(in_a_capture_of_another_thread),
    SCENARIO(captured_launcher_goes_in_a_capture),
    SCENARIO(out_of_memory),
    SCENARIO(from_another_device),
    SCENARIO(many_groups),
    SCENARIO(lars),
    SCENARIO(lars_capture_first),
    SCENARIO(old_device),
    SCENARIO(missing_driver),
    SCENARIO(old_driver),
};

// Whether the fault struck.
bool run(void (*scenario)(World&), int64_t k, bool for_good) {
  World world;
  fake::violations().clear();
  fake::make_current(0);
  fake::fail_at(k, for_good);
  scenario(world);
  const bool struck = fake::fault_struck();
  fake::heal();
  world.check("at the end");
  world.check_clean(for_good);
  require(!fake::has_context(0), "a context was made on device 0");
  return struck;
}

int64_t run_all_faults(void (*scenario)(World&)) {
  int64_t n = 0;
  for (const bool for_good : {false, true}) {
    for (int64_t k = 0;; ++k) {
      try {
        if (!run(scenario, k, for_good) && k > 0) break;
        n += k > 0;
      } catch (const std::exception& failure) {
        std::printf("call %lld, %s, failing%s: %s\n", static_cast<long long>(k),
                    fake::failed_call().c_str(), for_good ? " and all after it" : "",
                    failure.what());
        std::fflush(stdout);
        std::_Exit(1);  // what is left over now is no leak
      }
    }
  }
  return n;
}

}  // namespace

int main(int n_arguments, char** arguments) {
  if (n_arguments < 2) {
    for (const auto& each : SCENARIOS) std::printf("%s\n", each.name);
    return 0;
  }
  if (std::strcmp(arguments[1], "all") == 0) {
    for (const auto& each : SCENARIOS) run_all_faults(each.run);
    for (const std::string& name : fake::struck_calls()) std::printf("%s\n", name.c_str());
    return 0;
  }
  for (const auto& each : SCENARIOS) {
    if (std::strcmp(arguments[1], each.name) != 0) continue;
    std::printf("%lld faults\n", static_cast<long long>(run_all_faults(each.run)));
    return 0;
  }
  std::printf("there is no scenario %s\n", arguments[1]);
  return 2;
}
