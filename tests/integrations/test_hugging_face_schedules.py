"""get_schedule and from_torch beside transformers.get_scheduler, every step and past the end."""

import itertools
from typing import Any

import pytest
import torch
from transformers import SchedulerType, get_scheduler

from fused_warmup import from_torch, get_schedule
from fused_warmup.conversions.hugging_face import METRIC_DRIVEN, recognise
from fused_warmup.conversions.hugging_face_curves import BUILDERS

LR = 0.1
SPANS = [(0, 20), (5, 20), (1, 17), (20, 20), (25, 20), (7, 40)]
SHAPES = ("linear", "cosine", "1-sqrt")
CASES: list[tuple[str, dict[str, Any]]] = [
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("linear", {}),
    *[("cosine", {"num_cycles": n}) for n in (0.5, 1, 0.3, 2.25)],
    *[("cosine_with_restarts", {"num_cycles": n}) for n in (1, 2, 3, 5, 7, 30)],
    *[("polynomial", {"power": p}) for p in (1, 2, 0.5, 0.9)],
    ("polynomial", {"lr_end": 0.001}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 3}),
    *[("cosine_with_min_lr", {"min_lr": 0.01, "num_cycles": n}) for n in (0.5, 0.3)],
    ("cosine_with_min_lr", {"min_lr_rate": 0.2}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.2}),
    ("cosine_warmup_with_min_lr", {"min_lr": 0.01, "warmup_lr_rate": 0.3}),
    *[
        ("warmup_stable_decay", {"num_decay_steps": 7, "num_stable_steps": 4, "warmup_type": rise,
                                 "decay_type": fall, "min_lr_ratio": 0.1})
        for rise, fall in itertools.product(SHAPES, SHAPES)
    ],
]  # fmt: skip


def theirs(name: str, warmup: int, steps: int | None, options: dict[str, Any]) -> Any:
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    return get_scheduler(name, opt, warmup, steps, options or None)


@pytest.mark.parametrize(("warmup", "steps"), SPANS)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_is_theirs(name: str, options: dict[str, Any], warmup: int, steps: int | None) -> None:
    if name == "polynomial" and warmup == steps:  # they divide by zero, on the last step only
        with pytest.raises(ValueError, match="longer than the warm-up"):
            get_schedule(name, warmup, steps, options, lr=LR)
        return
    if name == "warmup_stable_decay":
        steps = None
    scheduler = theirs(name, warmup, steps, options)
    factor = scheduler.lr_lambdas[0]
    ours = get_schedule(name, warmup, steps, options, lr=LR)
    converted = from_torch(scheduler)
    for t in range(2 * (steps or 20) + warmup + 9):
        assert abs(ours(t) - factor(t)) <= 1e-12, t
        assert abs(converted(t) - factor(t)) <= 1e-12, t


def test_no_name_of_theirs_is_missing() -> None:
    assert {each.value for each in SchedulerType} == {*BUILDERS, *METRIC_DRIVEN}
    assert {name for name, _ in CASES} == set(BUILDERS)
    assert get_schedule(SchedulerType.LINEAR, 2, 6) == get_schedule("linear", 2, 6)


@pytest.mark.parametrize("name", METRIC_DRIVEN)
def test_what_follows_a_metric_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="follows a metric"):
        get_schedule(name)


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="unknown"):
        get_schedule("cosin", 1, 2)
    with pytest.raises(TypeError, match="num_warmup_steps"):
        get_schedule("linear", num_training_steps=9)
    with pytest.raises(TypeError, match="power"):
        get_schedule("linear", 1, 9, power=2)
    with pytest.raises(TypeError, match="lr="):
        get_schedule("cosine_with_min_lr", 1, 9, min_lr=0.01)


def test_only_their_own_functions_are_recognised() -> None:
    assert recognise(lambda t: 1.0) is None
    assert recognise(theirs("linear", 2, 9, {}).lr_lambdas[0]) is not None
