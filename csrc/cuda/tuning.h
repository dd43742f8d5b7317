// What only a GPU can choose. benchmarks/cuda_variants builds the kernel with other values, as in
// nvcc -DFW_BLOCK_SIZE=512, and times them; docs/cuda_kernel.md tells what is known of each.
#pragma once

// Threads a block.
#ifndef FW_BLOCK_SIZE
#define FW_BLOCK_SIZE 256
#endif

// Threads that a multiprocessor shall hold at a time, where parameters are float32: 1024 leave each
// 64 registers, 768 leave 80, 512 leave 128.
#ifndef FW_MIN_THREADS
#define FW_MIN_THREADS 768
#endif

// 16-byte packs of each tensor that a thread loads before it stores the first.
#ifndef FW_PACKS_IN_FLIGHT
#define FW_PACKS_IN_FLIGHT 2
#endif

// Threads that do a share together, side by side: a warp or a block.
#ifndef FW_SHARE_THREADS
#define FW_SHARE_THREADS 32
#endif

// Shares for each that the device runs at a time. With more, blocks that are through early get the
// next, at the price of working out the rates again.
#ifndef FW_WAVES
#define FW_WAVES 1
#endif

// Work, in elements, below which a warp is not worth starting.
#ifndef FW_MIN_SHARE
#define FW_MIN_SHARE 512
#endif

// 1: gradients and momentum buffers are marked as not needed again soon.
#ifndef FW_STREAMING
#define FW_STREAMING 0
#endif
