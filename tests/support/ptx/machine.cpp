// Runs a launch of a translated kernel on one thread of the CPU: blocks one after the other in any
// order, or all at once, taking turns at random after accesses to memory.
//
// It shows what the PTX computes and touches. It does not show what ptxas makes of it, weak memory
// order, or time.
#include "machine.h"

#include <algorithm>
#include <random>
#include <vector>

namespace {

constexpr size_t STACK_SIZE = 64 * 1024;
constexpr size_t MAX_ARGS_SIZE = 4096;
constexpr size_t WARP_SIZE = 32;
constexpr unsigned YIELD_IN = 16;  // where blocks interleave, one access in so many ends a turn
constexpr char RUBBISH = 0x5a;     // what shared memory holds at first

struct Range {
  u64 begin, end, writable;
};

struct Machine {
  std::vector<Range> memory;
  Range last{};  // met last: the next access mostly goes there, too
  const Entry* entry = nullptr;
  const char* args = nullptr;
  bool interleaved = false;
  std::mt19937_64 random;
  ucontext_t scheduler;
  std::vector<Thread> threads;
  std::vector<char> stacks, shared;
  Thread* current = nullptr;
  std::string error;
};
Machine machine;

void give_way(Thread& thread) { swapcontext(&thread.context, &machine.scheduler); }

void fail(Thread& thread, const std::string& what) {
  machine.error = "block " + std::to_string(thread.ctaid) + " thread " +
                  std::to_string(thread.tid) + ": " + what;
  give_way(thread);
}

void run_current() {
  Thread& thread = *machine.current;
  alignas(16) char args[MAX_ARGS_SIZE];  // each thread's own: a kernel may write to its arguments
  memcpy(args, machine.args, machine.entry->args_size);
  machine.entry->run(&thread, args);
  thread.state = State::DONE;
  give_way(thread);
}

void start(Thread& thread, char* stack) {
  thread.state = State::READY;
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = stack;
  thread.context.uc_stack.ss_size = STACK_SIZE;
  thread.context.uc_link = nullptr;
  makecontext(&thread.context, run_current, 0);
}

// Threads [begin, end) that wait at a barrier go on, once none of the others is still to come:
// those that have ended count as arrived.
void release(std::vector<size_t>& ready, size_t begin, size_t end, State waiting) {
  std::vector<Thread>& threads = machine.threads;
  for (size_t k = begin; k < end; ++k) {
    if (threads[k].state != waiting && threads[k].state != State::DONE) return;
  }
  for (size_t k = end; k-- > begin;) {
    if (threads[k].state != waiting) continue;
    threads[k].state = State::READY;
    ready.push_back(k);
  }
}

// Runs the threads of the blocks that are there at once until all are done.
void run_threads(int block_size) {
  std::vector<Thread>& threads = machine.threads;
  std::vector<size_t> ready(threads.size());
  for (size_t i = 0; i < ready.size(); ++i) ready[i] = ready.size() - 1 - i;
  const size_t block_threads = static_cast<size_t>(block_size);
  while (!ready.empty()) {
    if (machine.interleaved) std::swap(ready[machine.random() % ready.size()], ready.back());
    const size_t i = ready.back();
    machine.current = &threads[i];
    swapcontext(&machine.scheduler, &threads[i].context);
    if (!machine.error.empty()) return;
    if (threads[i].state == State::READY) continue;
    ready.pop_back();
    const size_t block = i / block_threads * block_threads, warp = i / WARP_SIZE * WARP_SIZE;
    if (threads[i].state != State::WAITING) {
      release(ready, warp, warp + WARP_SIZE, State::WAITING_FOR_WARP);
    }
    if (threads[i].state != State::WAITING_FOR_WARP) {
      release(ready, block, block + block_threads, State::WAITING);
    }
  }
}

}  // namespace

char* Thread::at(u64 address, unsigned size, Access access) {
  const bool writes = access == Access::WRITE;
  const auto refuse = [&](const char* why) {
    fail(*this, (writes ? "a write of " : "a read of ") + std::to_string(size) + " bytes " + why);
  };
  if (address % size != 0) refuse("at an address that is not aligned to it");
  const auto holds = [&](const Range& range) {
    return address >= range.begin && address + size <= range.end && (range.writable || !writes);
  };
  if (!holds(machine.last)) {
    const auto found = std::find_if(machine.memory.begin(), machine.memory.end(), holds);
    if (found == machine.memory.end()) refuse("outside of the memory that the launch may so use");
    machine.last = *found;
  }
  return reinterpret_cast<char*>(address);
}

char* Thread::shared_at(u64 offset, unsigned size) {
  if (offset % size != 0 || offset + size > shared_size) {
    fail(*this, "shared memory: " + std::to_string(size) + " bytes at " + std::to_string(offset) +
                    " of " + std::to_string(shared_size));
  }
  return shared + offset;
}

void Thread::after_access() {
  if (machine.interleaved && machine.random() % YIELD_IN == 0) give_way(*this);
}

void Thread::barrier() {
  state = State::WAITING;
  give_way(*this);
}

void Thread::warp_barrier() {
  state = State::WAITING_FOR_WARP;
  give_way(*this);
}

u32 Thread::atomic_inc(char* at, u32 limit) {
  const u32 old = load<u32>(at);
  store<u32>(at, old >= limit ? 0 : old + 1);
  after_access();
  return old;
}

extern "C" {

int n_entries() { return N_ENTRIES; }
const char* entry_name(int i) { return ENTRIES[i].name; }
const char* last_error() { return machine.error.c_str(); }

// `memory`: n_ranges times (begin, end, writable). Returns 0, or 1 where last_error() says why not.
int launch_kernel(int entry, const int* order, int n_blocks, int block_size, unsigned shared_size,
                  const char* args, int args_size, const u64* memory, int n_ranges, int interleaved,
                  u64 seed) {
  machine.entry = &ENTRIES[entry];
  machine.args = args;
  machine.interleaved = interleaved != 0;
  machine.random.seed(seed);
  machine.error.clear();
  if (static_cast<u64>(args_size) != machine.entry->args_size) {
    machine.error = "the kernel takes " + std::to_string(machine.entry->args_size) +
                    " bytes of arguments, not " + std::to_string(args_size);
    return 1;
  }
  machine.memory.clear();
  machine.last = {};
  for (int i = 0; i < n_ranges; ++i) {
    machine.memory.push_back({memory[3 * i], memory[3 * i + 1], memory[3 * i + 2]});
  }
  for (int i = 0; i < N_CONSTANTS; ++i) {
    const u64 begin = reinterpret_cast<u64>(CONSTANTS[i].data);
    machine.memory.push_back({begin, begin + CONSTANTS[i].size, 0});
  }
  const int at_once = machine.interleaved ? n_blocks : 1;
  const size_t n_threads = static_cast<size_t>(at_once) * static_cast<size_t>(block_size);
  const size_t stride = (shared_size + 31) / 16 * 16;  // of the blocks' shared memory
  machine.threads.resize(n_threads);
  machine.stacks.resize(std::max(machine.stacks.size(), n_threads * STACK_SIZE));
  machine.shared.resize(static_cast<size_t>(at_once) * stride);
  for (int first = 0; first < n_blocks; first += at_once) {
    std::fill(machine.shared.begin(), machine.shared.end(), RUBBISH);
    for (size_t i = 0; i < n_threads; ++i) {
      const size_t block = i / static_cast<size_t>(block_size);
      Thread& thread = machine.threads[i];
      thread.tid = static_cast<u32>(i) % static_cast<u32>(block_size);
      thread.ntid = static_cast<u32>(block_size);
      thread.ctaid = static_cast<u32>(order[static_cast<size_t>(first) + block]);
      thread.nctaid = static_cast<u32>(n_blocks);
      thread.shared = machine.shared.data() + block * stride;
      thread.shared_size = shared_size;
      start(thread, machine.stacks.data() + i * STACK_SIZE);
    }
    run_threads(block_size);
    if (!machine.error.empty()) return 1;
  }
  return 0;
}
}
