// What translated kernels run on: a thread is a fiber, each access is checked. See machine.cpp.
#pragma once

#include <ucontext.h>

#include <string>

#include "values.h"

enum class Access { READ, WRITE };

enum class State { READY, WAITING, WAITING_FOR_WARP, DONE };

struct Thread {
  u32 tid, ntid, ctaid, nctaid;
  char* shared;
  u64 shared_size;
  ucontext_t context;
  State state;

  // The memory of `size` bytes at an address of global memory, or at an offset into shared memory.
  char* at(u64 address, unsigned size, Access access);
  char* shared_at(u64 offset, unsigned size);
  void after_access();  // another thread may go on here
  void barrier();
  void warp_barrier();
  u32 atomic_inc(char* at, u32 limit);
};

template <class T>
static inline T load(const char* from) {
  T value;
  memcpy(&value, from, sizeof value);
  return value;
}
template <class T>
static inline void store(char* to, T value) {
  memcpy(to, &value, sizeof value);
}

// What translate.py writes.
struct Entry {
  const char* name;
  void (*run)(Thread*, char* args);
  u64 args_size;
};
struct Constant {
  const unsigned char* data;
  u64 size;
};
extern const Entry ENTRIES[];
extern const int N_ENTRIES;
extern const Constant CONSTANTS[];
extern const int N_CONSTANTS;
