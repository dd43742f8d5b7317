"""``python -m benchmarks.cuda_variants``: times on a GPU; without one, what the compiler made."""

import torch

from . import compiled, measured

if __name__ == "__main__":
    print(measured.table(measured.measure()) if torch.cuda.is_available() else compiled.table())
