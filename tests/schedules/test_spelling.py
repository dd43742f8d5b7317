"""repr(schedule) is the calls that make it: it reads back, and is short."""

import ast

import pytest
import torch
from hypothesis import given
from support import models
from support.strategies import BUILT as BUILT_ANYHOW

from fused_warmup import SGD, schedules
from fused_warmup.conversions import get_schedule
from fused_warmup.recipes import large_minibatch
from fused_warmup.schedules import Schedule, table

# What is written is what is shown.
SPELT = [
    "constant()",
    "constant(0.5)",
    "constant(0.5, 9)",
    "linear_warmup(500)",
    "linear_warmup(500, start=0.1)",
    "linear_warmup(500, count_from=1)",
    "linear_warmup(500).then(cosine(9500))",
    'linear_warmup(500).then(cosine(9500), clock="global")',
    "linear_warmup(5).then(constant(1, 20)).then(linear(9))",
    "constant_warmup(5, factor=0.1)",
    "cosine_warmup(5, start=0.1)",
    "exponential_warmup(5, start=0.01)",
    "linear(800, end=0.1)",
    "linear(800, start=0.5, end=0.1)",
    "polynomial(1000, power=2)",
    "polynomial(1000, power=0.9, end=0.1)",
    "exponential(0.5, 200)",
    "exponential(0.97, 1)",
    "inverse_sqrt(100)",
    "linear_warmup(100).then(inverse_sqrt(100))",
    "step(30, gamma=0.1)",
    "step(30, gamma=0.3).lasting(90)",
    'linear_warmup(5).then(step(30, gamma=0.5), clock="global")',
    "multi_step([30, 60, 80], gamma=0.1)",
    'linear_warmup(5, start=0.25).then(multi_step([30, 60, 80], gamma=0.1), clock="global")',
    "cosine_restarts(143)",
    "cosine_restarts(143, mult=2)",
    "cosine_restarts(143, mult=2, cycles=3)",
    "cosine_restarts(143, end=0.1, cycle_gain=0.5)",
    "table([1, 0.4, 0.7])",
    "one_cycle(1000)",
    "warmup_stable_decay(100, 600, 300, decay='1-sqrt')",
    "table([1, 0.4], past_end='repeat')",
]
BUILT = {
    "one_cycle": lambda: schedules.one_cycle(1000),
    "warmup_stable_decay": lambda: schedules.warmup_stable_decay(1, 2, 3, decay="1-sqrt"),
    "scaled": lambda: schedules.cosine(9).scaled(1 / 3),
    "stretched": lambda: schedules.linear_warmup(9).stretched(7),
    "Hugging Face": lambda: get_schedule("cosine_with_min_lr", 2, 6, min_lr_rate=0.1),
    "Goyal": lambda: large_minibatch(8192, dataset_size=1_281_167).schedule,
    "exponential to 0": lambda: schedules.exponential(0.0, 9),
    "a step that is none": lambda: schedules.step(9, gamma=1.0),
}


def read(text: str) -> Schedule:
    made = eval(text, vars(schedules).copy())
    assert isinstance(made, Schedule)
    return made


@pytest.mark.parametrize("text", SPELT)
def test_what_is_written_is_shown(text: str) -> None:
    """In other quotes, maybe."""
    assert ast.dump(ast.parse(repr(read(text)))) == ast.dump(ast.parse(text))


@pytest.mark.parametrize("name", BUILT)
def test_what_is_built_reads_back(name: str) -> None:
    schedule = BUILT[name]()
    assert read(repr(schedule)) == schedule


@given(BUILT_ANYHOW)
def test_whatever_builders_make_reads_back_unless_it_is_long(schedule: Schedule) -> None:
    text = repr(schedule)
    if text != str(schedule):
        assert read(text) == schedule


def test_an_optimizer_with_a_table_prints_in_a_few_lines() -> None:
    opt = SGD(models((3,)), lr=0.1, schedule=table(torch.rand(1000)))
    assert "schedule: Schedule(0: table of 1000; steps=1000)" in repr(opt)
    assert len(repr(opt)) < 600


def test_an_optimizer_without_a_schedule_prints_as_torchs() -> None:
    ours = SGD(models((3,)), lr=0.1)
    assert repr(ours) == repr(torch.optim.SGD(models((3,)), lr=0.1))
    ours.add_param_group({"params": models((2,)), "ema_decay": 0.9, "ema_every": 2})
    assert "ema_decay: 0.9\n    ema_every: 2\n    foreach" in repr(ours)
