// A stand-in for CUDA's runtime over host memory, linked in its place: what tests say to it, beside
// the calls of the runtime themselves.
//
// Streams are queues that are worked off when somebody waits for them or run() is called, no
// sooner: what is overwritten or freed too early is found out. The rules of stream capture are
// those of the documentation of cudaThreadExchangeStreamCaptureMode and cudaStreamBeginCapture; of
// calls that it leaves open, every one that is no work for a stream counts as potentially unsafe.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace fake {

// -- faults: calls count between arm() and disarm()

// The k-th call from now fails, the first being 1; `for_good`: all after it too. 0: none does.
void fail_at(int64_t k, bool for_good);
void heal();  // no more of them
bool fault_struck();
const std::string& failed_call();  // the first that did
void arm();
void disarm();
// Names of the calls that counted, since the last clear_log().
const std::vector<std::string>& log();
void clear_log();
// A call of something that is no part of the runtime. Whether it has to fail.
bool counts_and_fails(const char* name);

// Names of the calls that a fault has struck in this process.
const std::set<std::string>& struck_calls();

// -- the device

// What the driver says that it serves, as cudaDriverGetVersion() numbers it; 0: there is none.
void set_driver_version(int version);
cudaStream_t make_stream(int device);
void destroy_stream(cudaStream_t stream);
void run(cudaStream_t stream);
void run_all();
// Work that is enqueued behind the rest.
void enqueue(cudaStream_t stream, std::function<void()> work);
bool has_context(int device);

// -- threads: which one calls from now on

void as_thread(int thread);
// As a thread that has chosen it; it chose 0 if none.
void make_current(int device);
int current_device();

// -- capture, as the user of a stream does it

struct Graph;
void begin_capture(cudaStream_t stream, cudaStreamCaptureMode mode);
// Null where the capture has been invalidated.
Graph* end_capture(cudaStream_t stream);
void replay(const Graph* graph, cudaStream_t stream);
// Replays that are enqueued still run.
void destroy_graph(Graph* graph);
size_t n_nodes(const Graph* graph);

// A potentially unsafe call; what it has to return where capture forbids it.
cudaError_t unsafe(const char* name);
bool is_capturing(cudaStream_t stream);

// -- verdicts

// Calls that broke a rule, whether or not they were let through.
std::vector<std::string>& violations();
// What has been made by calls of the runtime and not been freed, side streams apart.
std::string left_over();
void free_pinned();  // what the launcher has given up
cudaError_t last_error();

}  // namespace fake
