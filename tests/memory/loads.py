"""Cases: a good checkpoint is loaded over a state that was spoilt, and training goes on from it.

torch's loader takes what it is given and drops what was there; so whatever has become of a tensor
of the state, a load makes it good. What must be refused of checkpoints is in
tests/optim/test_loading.py.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from .between import NotApplicable, Trial
from .subjects import SANITIZED, TARGETS, Ours, Target, differences, images
from .ways import Way, is_of_dtype, ways_for

LOADABLE = ("momentum_buffer", "first_step", "step", "count", "rate", "lr")


def load_over(target: Target, way: Way, warm: bool) -> None:
    ours, twin = Ours("everything"), Ours("everything")
    saved = Ours("everything")
    saved.train(3)
    state_dict = saved.opt.state_dict()
    for subject in (ours, twin):
        if warm:
            subject.train(1)
        for p, q in zip(subject.params, saved.params, strict=True):
            p.data = q.data.clone()
    trial = Trial("everything", target, way, "warm")
    try:
        trial.change(ours)
    except NotApplicable:
        return
    for subject in (ours, twin):
        subject.opt.load_state_dict(state_dict)
        subject.t = 3
    for step in range(2):
        for subject in (ours, twin):
            subject.train(1)
        wrong = differences(*map(without_counts, (ours, twin)))
        assert not wrong, f"{step} steps after the load, {wrong}"
        assert ours.opt.steps_applied == twin.opt.steps_applied == 4 + step


def without_counts(subject: Ours) -> dict[str, Any]:
    """What is to be compared; a count may stay of shape (1,)."""
    return {name: each for name, each in images(subject).items() if not name.startswith("step")}


CASES: dict[str, Callable[[], None]] = {
    f"{target.name}-{way.name}-{'warm' if warm else 'first'}": partial(load_over, target, way, warm)
    for target in TARGETS
    if target.name in LOADABLE
    for way in ways_for(target)
    if not (target.name == "lr" and is_of_dtype(way.name))  # it stays of the user's dtype
    for warm in ((True,) if SANITIZED else (True, False))
}


def warm_up() -> None:
    """Let torch import what it imports late."""
    load_over(TARGETS[2], ways_for(TARGETS[2])[0], True)
