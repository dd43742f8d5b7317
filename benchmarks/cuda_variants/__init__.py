"""The CUDA kernel in other shapes, from the same source: what csrc/cuda/tuning.h leaves open."""
