"""The matrix of all options: SGD's, LARS's, averages and masters, for all pairs of dtypes.

A fifth of it, by fixed seeds, is what a run tests; `make test-all` tests all of it.
"""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import torch

from fused_warmup import LARS, SGD
from support import DTYPE_PAIRS, OPTIONS, WHOLE, models, parameter, set_grads

STEPS = 3
KINDS: list[dict[str, Any]] = [
    {"foreach": True},
    {"foreach": False},
    *(
        {"lr_in_momentum": inside, "trust_clip": clip, "adapt": adapt, "trust_coefficient": 0.1}
        for inside, clip, adapt in itertools.product((True, False), (False, True), (True, False))
        if adapt or not clip
    ),
]
"""The optimizers: SGD, whose foreach is torch's alone, and LARS by its switches."""

AVERAGES: list[dict[str, Any]] = [
    {},
    {"ema_decay": 0.9},
    {"ema_decay": 0.4, "ema_every": 2, "ema_start": 1},
]

Storage = tuple[tuple[torch.dtype, torch.dtype], bool]
STORAGE: list[Storage] = [
    (pair, masters)
    for pair, masters in itertools.product(DTYPE_PAIRS, (False, True))
    if not masters or pair[0].itemsize == 2
]
"""Dtypes of a parameter and its gradient, and whether it has a master."""


def cases(kind: dict[str, Any], storage: Storage) -> list[dict[str, Any]]:
    """All options for a kind of optimizer and its storage, or a fifth of them."""
    return _all(kind, storage) if WHOLE else fifth(kind, storage)


def fifth(kind: dict[str, Any], storage: Storage) -> list[dict[str, Any]]:
    """A fifth of the options for a kind of optimizer and its storage, by their own seed."""
    options = _all(kind, storage)
    seed = KINDS.index(kind) * len(STORAGE) + STORAGE.index(storage)
    return random.Random(seed).sample(options, len(options) // 5)


def _all(kind: dict[str, Any], storage: Storage) -> list[dict[str, Any]]:
    return [
        {"lr": 0.25, **options, **averages, **kind, "master_weights": storage[1]}
        for options, averages in itertools.product(OPTIONS, AVERAGES)
    ]


def trained(
    options: dict[str, Any], storage: Storage, shapes: Sequence[tuple[int, ...]], backend: str
) -> SGD | LARS:
    """An optimizer after `STEPS` steps."""
    (dtype, grad_dtype), _ = storage
    params = [parameter(p, grad_dtype) for p in models(*shapes, dtype=dtype)]
    opt = (LARS if "adapt" in options else SGD)(params, backend=backend, **options)
    for t in range(STEPS):
        set_grads(params, t)
        opt.step()
    return opt
