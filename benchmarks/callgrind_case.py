"""What `callgrind.py` runs under valgrind: steps of each case, an instruction count after each.

Instrumentation is off but around the steps, so that importing torch takes seconds, not minutes.
Usage: ``python -m benchmarks.callgrind_case LIBRARY``, the library that `callgrind.py` builds.
"""

import ctypes
import gc
import sys

import torch

import fused_warmup
from benchmarks import rates
from benchmarks.callgrind import CASES, STEPS

WARMUP_STEPS = 3


def main() -> None:
    torch.set_num_threads(1)
    gc.disable()  # a collection now and then would decide the count
    requests = ctypes.CDLL(sys.argv[1])
    for shape_set in CASES.values():
        optimizer = fused_warmup.SGD(
            shape_set.make("cpu"), lr=1e-3, momentum=0.9, schedule=rates.schedule()
        )
        for _ in range(WARMUP_STEPS):
            optimizer.step()
        for steps in (0, STEPS):
            requests.start()
            for _ in range(steps):
                optimizer.step()
            requests.stop()


if __name__ == "__main__":
    main()
