"""`make test-integrations` installs what these tests need; without it none is collected."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

NEEDED = (
    "lightning",
    "transformers",
    "accelerate",
    "timm",
    "optax",
    "warmup_scheduler",
    "pytorch_warmup",
    "mmengine",
    "ignite",
)
collect_ignore_glob = [] if all(map(importlib.util.find_spec, NEEDED)) else ["test_*.py"]

# timm imports torchvision, whose wheels are built for torch with CUDA: its library does not load
# beside a CPU torch, and its Python then misses the two operators that it describes on import. They
# are declared here and nothing calls them. It lies apart, so that no other library finds it.
sys.path.append(str(Path(sys.prefix) / "torchvision"))
for name in ("nms", "qnms"):
    torch.library.define(
        f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    )


@pytest.fixture(autouse=True)
def one_seed() -> None:
    """Models that are built after the same calls are equal."""
    torch.manual_seed(0)
