"""``lr_mode`` as a mapping: torch's schedulers under SuperGradients' trainer, at every step."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.super_gradients_trainer import Trainer

from fused_warmup import from_super_gradients

# torch's recursions against closed forms, over at most a few hundred steps of float64.
TOLERANCE = 1e-11

SCHEDULERS: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 2, "gamma": 0.5},
    "LambdaLR": {"lr_lambda": lambda t: 1 / (t + 10)},
    "MultiStepLR": {"milestones": [0, 1, 3], "gamma": 0.1},
    "ConstantLR": {"factor": 0.5, "total_iters": 4},
    "CosineAnnealingLR": {"T_max": 3, "eta_min": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    "ExponentialLR": {"gamma": 0.7},
    "LinearLR": {},
}
PHASES = (
    "TRAIN_EPOCH_START", "TRAIN_BATCH_END", "TRAIN_BATCH_STEP", "TRAIN_EPOCH_END",
    "VALIDATION_EPOCH_END",
)  # fmt: skip
WARMUPS: dict[str, dict[str, Any]] = {
    "none": {},
    "epochs": {"lr_warmup_epochs": 2},
    "a fraction": {"lr_warmup_epochs": 1.5, "warmup_initial_lr": 0.001},
    "batches": {"warmup_mode": "LinearBatchLRWarmup", "lr_warmup_steps": 3,
                "warmup_initial_lr": 0.01},
    "batches, then epochs": {"warmup_mode": "LinearBatchLRWarmup", "lr_warmup_steps": 2,
                             "warmup_initial_lr": 0.01, "lr_warmup_epochs": 1},
    "all": {"lr_warmup_epochs": 9},
}  # fmt: skip


def expected(params: dict[str, Any], batches: int) -> list[float]:
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=params["initial_lr"], momentum=0.9)
    return Trainer(params, optimizer, batches).rates()


def check(name: str, phase: str, warmup: str, batches: int, accumulate: int, epochs: int) -> None:
    mode = {name: {**SCHEDULERS[name], "phase": phase}}
    params = {"initial_lr": 0.1, "max_epochs": epochs, "lr_mode": mode, **WARMUPS[warmup]}
    params["batch_accumulate"] = accumulate
    if epochs * batches < accumulate:
        return
    recipe = from_super_gradients(params, batches)
    want = expected(params, batches)
    assert recipe.steps == len(want)
    got = [recipe.lr_at(t) for t in range(recipe.steps)]
    assert got == pytest.approx(want, rel=TOLERANCE, abs=1e-16)
    assert recipe.lr_at(recipe.steps + 50) == recipe.lr_at(recipe.steps - 1)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_rates_are_those_of_the_trainer(name: str, phase: str) -> None:
    for warmup in WARMUPS:
        check(name, phase, warmup, batches=4, accumulate=1, epochs=6)


@given(
    st.sampled_from(sorted(SCHEDULERS)),
    st.sampled_from(PHASES),
    st.sampled_from(sorted(WARMUPS)),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 7),
)
def test_with_accumulation(
    name: str, phase: str, warmup: str, batches: int, accumulate: int, epochs: int
) -> None:
    check(name, phase, warmup, batches, accumulate, epochs)


def test_a_common_one_takes_a_few_segments() -> None:
    mode = {"StepLR": {"step_size": 30, "phase": "TRAIN_EPOCH_END"}}
    params = {"initial_lr": 0.1, "max_epochs": 90, "lr_mode": mode, "lr_warmup_epochs": 5}
    recipe = from_super_gradients(params, steps_per_epoch=1000)
    assert len(recipe.schedule.segments) <= 6
    assert "torch's StepLR(step_size=30) at TRAIN_EPOCH_END" in str(recipe)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_sane_variant_begins_with_the_first_rate(phase: str, accumulate: int) -> None:
    mode = {"ExponentialLR": {"gamma": 0.5, "phase": phase}}
    params = {"initial_lr": 0.1, "max_epochs": 4, "lr_mode": mode, "batch_accumulate": accumulate}
    recipe = from_super_gradients(params, steps_per_epoch=3, faithful=False)
    assert recipe.lr_at(0) == 0.1
    in_batches = phase == "TRAIN_BATCH_END"
    later = 0.5**accumulate if in_batches else 0.5
    at = 1 if in_batches or phase == "TRAIN_BATCH_STEP" else 3 // accumulate
    assert recipe.lr_at(at) == pytest.approx(0.1 * later, rel=TOLERANCE)


@pytest.mark.parametrize("warmup", ["epochs", "batches"])
def test_the_sane_variant_keeps_to_the_schedulers_own_course(warmup: str) -> None:
    """SuperGradients lets LinearLR multiply what the warm-up leaves: to thrice initial_lr."""
    mode = {"LinearLR": {"total_iters": 2, "phase": "TRAIN_EPOCH_END"}}
    params = {"initial_lr": 0.1, "max_epochs": 6, "lr_mode": mode, **WARMUPS[warmup]}
    sane = from_super_gradients(params, steps_per_epoch=4, faithful=False)
    assert sane.lr_at(sane.steps - 1) == pytest.approx(0.1)
    first = 2 if warmup == "epochs" else 0
    assert sane.lr_at(4 * (first + 1)) == pytest.approx(0.1 * 2 / 3)
    faithful = from_super_gradients(params, steps_per_epoch=4)
    assert faithful.lr_at(faithful.steps - 1) == pytest.approx(0.3)


def test_each_group_follows_its_own() -> None:
    mode = {"CyclicLR": {"base_lr": 0.1, "max_lr": 0.4, "step_size_up": 4, "phase": PHASES[2]}}
    rates = {"default": 0.2, "head": 0.8}
    recipe = from_super_gradients({"initial_lr": rates, "max_epochs": 2, "lr_mode": mode}, 4)
    for name in rates:
        got = [recipe.lr_at(t, name) for t in range(8)]
        assert got == pytest.approx([0.1, 0.175, 0.25, 0.325, 0.4, 0.325, 0.25, 0.175])
    assert "momentum: CyclicLR's cycle, in the step" in str(recipe)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("warmup", ["none", "epochs", "batches"])
@pytest.mark.parametrize("phase", PHASES)
def test_the_momentum_cycles_with_the_rate(phase: str, warmup: str, accumulate: int) -> None:
    mode = {"CyclicLR": {**SCHEDULERS["CyclicLR"], "max_momentum": 0.95, "phase": phase}}
    params = {"initial_lr": 0.1, "max_epochs": 5, "lr_mode": mode, **WARMUPS[warmup]}
    params["batch_accumulate"] = accumulate
    twin = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    trainer = Trainer(params, twin, 4)
    twin._opt_called = True
    want = [twin.param_groups[0]["momentum"] for _ in trainer.steps(lambda _: None)]
    recipe = from_super_gradients(params, 4)
    opt = recipe.optimizer(torch.nn.Linear(1, 1))
    group: Any = opt.param_groups[0]
    assert group["momentum"] == 0.95
    factors = group["momentum_schedule"].schedule
    got = [0.95 * factors(t) for t in range(recipe.steps)]
    assert got == pytest.approx(want, rel=TOLERANCE)
    adam = from_super_gradients({**params, "optimizer": "Adam"}, 4)
    assert "CyclicLR moves the momentum, betas[0], too" in str(adam)
    adam.optimizer(torch.nn.Linear(1, 1))
    mode["CyclicLR"]["cycle_momentum"] = False
    assert from_super_gradients(params, 4).momentum_cycle == {}


def test_a_phase_may_be_the_enum_or_hydras_call_of_it() -> None:
    class Phase:
        name = "TRAIN_EPOCH_END"

    call = {"_target_": "super_gradients...Phase", "value": "TRAIN_EPOCH_END"}
    schedules = [
        from_super_gradients(
            {
                "initial_lr": 0.1,
                "max_epochs": 4,
                "lr_mode": {"StepLR": {"step_size": 2, "phase": phase}},
            },
            5,
        ).schedule
        for phase in ("TRAIN_EPOCH_END", Phase(), call)
    ]
    assert schedules[0] == schedules[1] == schedules[2]


def test_a_plateau_stays_yours_and_works_on_top() -> None:
    given = {"patience": 0, "phase": "VALIDATION_EPOCH_END", "metric_name": "mAP"}
    params = {"initial_lr": 0.4, "max_epochs": 4, "lr_mode": {"ReduceLROnPlateau": given}}
    recipe = from_super_gradients({**params, "lr_warmup_epochs": 1}, steps_per_epoch=2)
    assert "ReduceLROnPlateau(opt, patience=0); plateau.step(mAP) at VALIDATION_" in str(recipe)
    assert [recipe.lr_at(t) for t in range(4)] == [0.2, 0.2, 0.4, 0.4]
    model = torch.nn.Linear(1, 1)
    opt = recipe.optimizer(model)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=0)
    for _ in range(3):
        plateau.step(1.0)
    model(torch.ones(1, 1)).sum().backward()
    opt.step()
    assert opt.get_last_lr() == pytest.approx([0.002])


class Remembers:
    """A factor that knows how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, t: int) -> float:
        self.calls += 1
        return 1.0 / self.calls


def test_a_function_that_remembers_is_left_alone() -> None:
    function = Remembers()
    mode = {"LambdaLR": {"lr_lambda": function, "phase": "TRAIN_BATCH_STEP"}}
    recipe = from_super_gradients({"initial_lr": 1.0, "max_epochs": 2, "lr_mode": mode}, 2)
    assert function.calls == 0
    assert [recipe.lr_at(t) for t in range(4)] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


@pytest.mark.parametrize(
    ("mode", "error", "word"),
    [
        ({}, ValueError, "one torch scheduler"),
        ({"OneCycleLR": {"max_lr": 1, "phase": "TRAIN_BATCH_END"}}, ValueError, "OneCycleLR"),
        ({"StepLR": {}, "LinearLR": {}}, ValueError, "one torch scheduler"),
        ({"StepLR": 3}, TypeError, "StepLR, it must be a mapping"),
        ({"StepLR": {"step_size": 3}}, ValueError, "phase None"),
        ({"StepLR": {"step_size": 3, "phase": "TEST_END"}}, ValueError, "TEST_END"),
        ({"StepLR": {"step": 3, "phase": "TRAIN_EPOCH_END"}}, ValueError, "refuses.*'step'"),
        ({"ReduceLROnPlateau": {"phase": "TRAIN_EPOCH_END"}}, ValueError, "metric_name"),
    ],
)
def test_errors_name_the_remedy(mode: Any, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        from_super_gradients({"initial_lr": 0.1, "max_epochs": 3, "lr_mode": mode}, 4)
