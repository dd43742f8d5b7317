"""Cases: Python code of the user's runs in the middle of a step and changes what the step works on.

It may run wherever Python itself runs: between any two calls (a signal handler, a profiler, another
thread's turn), where an allocation starts the garbage collector, in a gradient that is a property,
in an option's ``__float__``, in the ``__eq__`` of a group's key. One run for each such moment of a
step: afterwards every parameter is as if the change had come before the step, or after it, or,
where the step raised, as if there had been none.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .changes import AROUND, TENSORS, Change
from .mechanisms import MECHANISMS, Countdown, Haunted, at_calls
from .subjects import SANITIZED, Ours, alike, brief, differences, images
from .ways import column_major

MOST = 6 if SANITIZED else 30  # moments of a step; of more, so many at equal distances


def fast(make: Callable[[str], Ours] = Ours) -> Ours:
    """A step like the one before it."""
    ours = make("everything")
    ours.train(1)
    ours.set_grads()
    return ours


def careful(make: Callable[[str], Ours] = Ours) -> Ours:
    """A step that must copy a gradient first."""
    ours = fast(make)
    ours.params[1].grad = column_major(ours.params[1].grad)
    return ours


def first(make: Callable[[str], Ours] = Ours) -> Ours:
    """A step that makes its plan."""
    ours = make("everything")
    ours.set_grads()
    return ours


def mixed(make: Callable[[str], Ours] = Ours) -> Ours:
    """A step that the reference and a native kernel share: each updates some of the parameters."""
    ours = make("everything")
    other = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    ours.opt.add_param_group({"params": [other], "lr": 0.1})
    other.grad = torch.ones_like(other)
    ours.train(1)
    ours.set_grads()
    return ours


def hooked(make: Callable[[str], Ours] = Ours) -> Ours:
    """A step with hooks before and after it."""
    ours = fast(make)
    ours.opt.register_step_pre_hook(lambda *_: None)
    ours.opt.register_step_post_hook(lambda *_: None)
    return ours


PATHS = {"fast": fast, "careful": careful, "first": first, "mixed": mixed, "hooked": hooked}


def haunted(setting: str) -> Ours:
    """Like Ours, of parameters whose gradient is a property."""
    return Ours(setting, kind=Haunted)


def made(mechanism: str, path: str) -> Ours:
    return PATHS[path](haunted if mechanism == "gradients" else Ours)


def step(ours: Ours) -> Exception | None:
    try:
        ours.step()
    except Exception as error:
        return error
    return None


def n_moments(mechanism: str, path: str) -> int:
    """How often a step can be interrupted so."""
    if mechanism == "allocations":
        return MOST
    times = Countdown(1 << 30, lambda: None)
    ours = made(mechanism, path)
    with MECHANISMS[mechanism](ours, times):
        step(ours)
    return (1 << 30) - times.left


def moments(mechanism: str, path: str, offset: int) -> range:
    n = n_moments(mechanism, path)
    stride = max(1, n // MOST)
    return range(offset % stride, n, stride)


def judge(mechanism: str, path: str, change: Change, offset: int, strict: bool) -> None:
    """Make a change at every moment of a step."""
    allowed = (
        [] if not strict else [outcome(mechanism, path, change, o) for o in ("before", "after")]
    )
    refused = outcome(mechanism, path, change, "alone") if strict else {}
    for k in moments(mechanism, path, offset):
        ours = made(mechanism, path)
        done: list[Exception | None] = []

        def act(ours: Ours = ours, done: list[Exception | None] = done) -> None:
            done.append(None)
            try:
                change(ours)
            except Exception as refusal:  # torch or the optimizer does not let it be done now
                done[-1] = refusal

        with MECHANISMS[mechanism](ours, Countdown(k, act)):
            error = step(ours)
        if not strict or mechanism in ("numbers", "keys") or not done or done[-1] is not None:
            continue
        now = images(ours)
        # What the step's end writes to the gradients may fail: then the step itself is done.
        undone = error is not None and not unexplained_parameters(now, [refused])
        wrong = "" if undone else unexplained(now, allowed)
        assert not wrong, f"at moment {k}, {repr(error) if error else 'done'}: {wrong}"
    torch.nn.Parameter(torch.ones(1000)).sum().item()  # notices a heap that is out of order
    Ours("everything").train(2)


def outcome(mechanism: str, path: str, change: Change, order: str) -> dict[str, Any]:
    """What is there if a change comes before a step, after it, or without one."""
    ours = made(mechanism, path)
    if order == "after":
        step(ours)
    change(ours)
    if order == "before":
        step(ours)
    return images(ours)


def unexplained(now: dict[str, Any], allowed: list[dict[str, Any]]) -> str:
    """Name the parameters whose tensors are those of no allowed outcome."""
    parts: dict[str, list[str]] = {}
    for name in now:
        kind, index = name.rsplit(" ", 1)
        # A gradient that changes may be written to before it does, or after; the count is shared.
        if kind != "gradient":
            parts.setdefault(name if kind == "step" else index, []).append(name)
    found = [
        "; ".join(f"{n} {brief(now[n])}, not {[brief(e.get(n)) for e in allowed]}" for n in own)
        for own in parts.values()
        if not any(all(alike(now[n], each.get(n)) for n in own) for each in allowed)
    ]
    return " and ".join(found[:2])


def unexplained_parameters(now: dict[str, Any], allowed: list[dict[str, Any]]) -> str:
    return unexplained({n: v for n, v in now.items() if n.startswith("parameter")}, allowed)


class Stop(BaseException):
    """As KeyboardInterrupt."""


def interrupt(path: str) -> None:
    """An exception at any moment of a step leaves all of it undone, or none."""

    def stop() -> None:
        raise Stop

    done = PATHS[path]()
    step(done)
    untouched = PATHS[path]()
    states = [bare(images(untouched)), bare(images(done))]
    for k in moments("calls", path, 0):
        ours = PATHS[path]()
        try:
            with at_calls(ours, Countdown(k, stop)):
                ours.step()
        except Stop:
            pass
        now = bare(images(ours))
        wrong = [differences(now, state) for state in states]
        assert not all(wrong), f"stopped at moment {k}, neither done nor undone: {wrong[0]}"


def bare(found: dict[str, Any]) -> dict[str, Any]:
    """Without what may be written after the step itself."""
    return {n: v for n, v in found.items() if not n.startswith(("gradient", "rate"))}


ROUTES = [
    *(("calls", path) for path in PATHS),
    *(("allocations", path) for path in PATHS if path != "hooked"),
    *(("gradients", path) for path in ("fast", "first")),
    *((mechanism, path) for mechanism in ("numbers", "keys") for path in ("fast", "first")),
]


def is_judged(path: str, name: str) -> bool:
    """Whether the outcome counts: while a first step fills the state, it may put its own there."""
    return name in TENSORS and not (path == "first" and name in ("momentum_new", "count_new"))


CASES: dict[str, Callable[[], None]] = {
    f"{mechanism}-{path}-{name}": partial(judge, mechanism, path, change, i, is_judged(path, name))
    for mechanism, path in ROUTES
    for i, (name, change) in enumerate({**TENSORS, **AROUND}.items())
}
# The reference updates one tensor after the other, by Python: it can be stopped in between.
CASES |= {f"interrupt-{path}": partial(interrupt, path) for path in PATHS if path != "mixed"}


def warm_up() -> None:
    """Let torch import what it imports late."""
    for path in PATHS:
        step(made("gradients", path))
