"""Cases: the private extension is called with arguments that no caller of ours passes.

Whoever reaches for it gets an error or an answer, and no memory of somebody else's. Left out are
objects whose ``__init__`` never ran (``CpuPlan.__new__(CpuPlan)``): pybind11 itself takes them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from fused_warmup import _C, schedules

LINE, NONE = schedules.linear_warmup(4).pack()
TABLE, VALUES = schedules.from_callable(lambda t: 1 / (t + 1), 50).pack()
FINE: dict[str, Any] = {
    "schedules": [(LINE, NONE)],
    "group_of": [0, 0],
    "schedule_of": [0],
    "momentum_schedule_of": [-1],
}
GROUP = {
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "dampening": 0.0,
    "nesterov": False,
    "maximize": False,
}


def arguments(**changed: Any) -> dict[str, Any]:
    fine = {
        "params": [torch.ones(4), torch.ones(3)],
        "momentum_buffers": [torch.zeros(4), torch.zeros(3)],
        "first_steps": [None, torch.tensor(-1)],
        "t": torch.tensor(0),
        "lr": torch.zeros(1, dtype=torch.float64),
        **FINE,
    }
    return {**fine, **changed}


def make(kind: str, **changed: Any) -> Any:
    own = {"CpuPlan": {"capability": "DEFAULT"}, "EmulatedPlan": {"resident_blocks": 4}}[kind]
    return getattr(_C, kind)(**own, **arguments(**changed))


def step(kind: str, changed: dict[str, Any], grads: Any = None) -> None:
    """Build, prepare and launch; an error is an answer."""
    try:
        plan = make(kind, **changed)
        grads = [torch.ones(4), torch.ones(3)] if grads is None else grads
        if plan.prepare([dict(GROUP)], grads, None, None, False):
            plan.launch(True)
    except (TypeError, ValueError, IndexError, AttributeError, RuntimeError, OverflowError):
        return


WRONG: dict[str, dict[str, Any]] = {
    **{
        f"{name}={value}": {name: value}
        for name, values in {
            "group_of": ([], [0], [0, 7], [-1, 0], [0, 2**31 - 1], [0] * 9),
            "schedule_of": ([], [9], [-2], [2**31 - 1], [0, 0]),
            "momentum_schedule_of": ([], [9], [-2], [0, 0]),
            "momentum_buffers": ([], [None], [torch.zeros(9)] * 2, [1, 2]),
            "first_steps": ([], [None], [1, 2], [torch.zeros(0)] * 2),
            "params": ([], [None, None], ["x", 1]),
            "t": (torch.tensor(0.0), torch.zeros(3, dtype=torch.int64), None),
            "lr": (torch.zeros(1), torch.zeros(0, dtype=torch.float64), None),
        }.items()
        for value in values
    },
    "no segments": {"schedules": [(b"", ())]},
    "no schedules": {"schedules": []},
    "half a segment": {"schedules": [(LINE[:20], ())]},
    "a table without values": {"schedules": [(TABLE, ())], "t": torch.tensor(30)},
    "a table of few values": {"schedules": [(TABLE, VALUES[:3])], "t": torch.tensor(30)},
}


def without_prepare(kind: str) -> None:
    for changed in ({}, {"momentum_buffers": [None, None]}):
        try:
            make(kind, **changed).launch(True)
        except (RuntimeError, ValueError):
            continue


def twice(kind: str) -> None:
    """A second launch has nothing that it may use."""
    plan = make(kind)
    for _ in range(2):
        grads = [torch.ones(4), torch.ones(3)]
        plan.prepare([dict(GROUP)], grads, torch.tensor(2.0), torch.tensor(0.0), True)
        plan.launch(True)
        del grads
        try:
            plan.launch(True)
        except RuntimeError:
            continue


def steps_without(watch: Any, plans: list[Any]) -> None:
    try:
        _C.HostStep(watch, [], plans, True).run({}, [], None, None, False)
    except (RuntimeError, TypeError):
        return


class Reentrant:
    """A gradient, so called, that prepares the same plan again when it goes."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan

    def __del__(self) -> None:
        self.plan.prepare([dict(GROUP)], [None, None], None, None, False)


def prepares_again(kind: str) -> None:
    plan = make(kind)
    for _ in range(3):
        plan.prepare([dict(GROUP)], [Reentrant(plan), Reentrant(plan)], None, None, False)
    plan.prepare([dict(GROUP)], [None] * 2, None, None, False)


def factors(segments: bytes, values: list[float], steps: list[int]) -> None:
    try:
        _C.schedule_factors(segments, values, steps)
    except (ValueError, RuntimeError, IndexError):
        return


def random_bytes() -> None:
    """Bytes of any kind: the first of them, a segment's kind, one of those there are."""
    torch.manual_seed(0)
    for i in range(3000):
        n = len(LINE) * (1 + i % 3)
        noise = bytes(torch.randint(0, 256, (n,), dtype=torch.uint8).tolist())
        mixed = bytearray(TABLE * (1 + i % 3))
        for at in torch.randint(0, n, (1 + i % 12,)).tolist():
            mixed[at] = noise[at]
        factors(bytes(mixed), list(VALUES), [0, 1, 49, 50, 10**6, -1, 2**63 - 1, -(2**63)])
        factors(noise, list(VALUES), [0, 7])


KINDS = ("CpuPlan", "EmulatedPlan")

CASES: dict[str, Callable[[], None]] = {
    **{
        f"{kind}-{name}": partial(step, kind, changed)
        for kind in KINDS
        for name, changed in WRONG.items()
    },
    **{
        f"{kind}-grads={name}": partial(step, kind, {}, grads)
        for kind in KINDS
        for name, grads in {
            "none": [],
            "one": [torch.ones(4)],
            "many": [torch.ones(4)] * 9,
            "text": ["x", "y"],
            "longer": [torch.ones(4), torch.ones(9)],
            "tuple": (torch.ones(4), torch.ones(3)),
        }.items()
    },
    **{f"{kind}-without_prepare": partial(without_prepare, kind) for kind in KINDS},
    **{f"{kind}-twice": partial(twice, kind) for kind in KINDS},
    **{f"{kind}-prepares_again": partial(prepares_again, kind) for kind in KINDS},
    "HostStep-watch=None": partial(steps_without, None, []),
    "HostStep-plan=None": partial(steps_without, _C.Watch({}, []), [None]),
    "factors-no_segments": partial(factors, b"", [], [0]),
    "factors-half_a_segment": partial(factors, LINE[:-8], [], [0]),
    "factors-no_values": partial(factors, TABLE, [], [0, 49]),
    "factors-few_values": partial(factors, TABLE, list(VALUES)[:3], [0, 49, 10**6]),
    "factors-outside": partial(factors, TABLE, list(VALUES), [-1, -(2**63), 2**63 - 1]),
    "factors-random_bytes": random_bytes,
}


def warm_up() -> None:
    """Let torch import what it imports late."""
    step("CpuPlan", {})
