"""Steps of an optimizer whose groups, state and attributes are known until they change."""

import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import PATIENCE, models, same_bits, set_grads, train
from torch import Tensor
from torch.autograd import forward_ad
from torch.optim import optimizer as torch_optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from fused_warmup import _C, SGD, linear_warmup

alone = pytest.mark.skipif(not _C.reads_libtorch(), reason="torch is asked through Python")


def steady() -> SGD:
    """An optimizer that knows all that its step relies on."""
    opt = SGD(models((3,), (2, 2)), lr=0.5, momentum=0.9, schedule=linear_warmup(64))
    train(opt, 4)
    return opt


def twins() -> tuple[SGD, torch.optim.SGD]:
    """An optimizer that knows all, and torch's with the same behind it."""
    opt = SGD(models((3,), (2, 2)), lr=0.5, momentum=0.9, weight_decay=0.01)
    expected = torch.optim.SGD(models((3,), (2, 2)), lr=0.5, momentum=0.9, weight_decay=0.01)
    for each in (opt, expected):
        train(each, 4)
    return opt, expected


def params_of(opt: torch.optim.Optimizer) -> list[Tensor]:
    return opt.param_groups[0]["params"]


def hold_the_same(a: torch.optim.Optimizer, b: torch.optim.Optimizer) -> bool:
    return all(map(same_bits, params_of(a), params_of(b)))


WAYS: dict[str, Callable[[Any, dict[str, Any]], object]] = {
    "update": lambda opt, new: opt.param_groups[0].update(new),
    "pop": lambda opt, new: (
        [opt.param_groups[0].pop(k) for k in new] and opt.param_groups[0].update(new)
    ),
    "clear": lambda opt, new: opt.param_groups[0].update(
        {**opt.param_groups[0], **new, "was": opt.param_groups[0].clear()}
    ),
    "another dict": lambda opt, new: opt.param_groups.__setitem__(
        0, {**opt.param_groups[0], **new}
    ),
    "another list": lambda opt, new: setattr(opt, "param_groups", [{**opt.param_groups[0], **new}]),
}


@pytest.mark.parametrize("way", WAYS)
def test_options_that_change_are_read_anew(way: str) -> None:
    opt, expected = twins()
    news: list[dict[str, Any]] = [
        {"weight_decay": 0.5},
        {"lr": 0.25},
        {"momentum": 0.5, "nesterov": True},
        {"maximize": True},
        {"lr": torch.tensor(0.125)},
        {"lr": 1, "weight_decay": 0},
    ]
    for i, new in enumerate(news):
        for each in (opt, expected):
            WAYS[way](each, new)
            train(each, 3, first=10 * i)
        assert hold_the_same(opt, expected), new


def test_a_tensor_is_read_at_each_step_and_let_go_with_its_group() -> None:
    rate, decay = torch.tensor(0.5), torch.tensor(0.125)
    opt, expected = twins()
    opt.param_groups[0].update(lr=rate, weight_decay=decay)
    for i in range(4):
        rate.fill_(0.5 / (i + 1))
        decay.fill_(0.125 * i)
        expected.param_groups[0].update(lr=float(rate), weight_decay=float(decay))
        for each in (opt, expected):
            train(each, 2, first=i)
        assert hold_the_same(opt, expected)
    gone = weakref.ref(rate)
    opt.param_groups[0]["lr"] = expected.param_groups[0]["lr"] = 0.25
    del rate
    for each in (opt, expected):
        train(each, 1)
    assert gone() is None
    assert hold_the_same(opt, expected)


@alone
def test_a_step_stays_alone_whatever_changes_beside_it() -> None:
    opt = steady()
    for i in range(3):
        opt.note = i  # type: ignore[attr-defined]
        opt.param_groups[0]["note"] = i
        opt.state[params_of(opt)[0]]["note"] = i
        vars(torch_optimizer)["note"] = vars(forward_ad)["note"] = i
        set_grads(params_of(opt), i)
        assert opt._host_step.run_alone(opt) is True
    del vars(torch_optimizer)["note"], vars(forward_ad)["note"]
    assert opt._host_step.run_alone(opt) is True
    opt.__dict__ = dict(opt.__dict__)
    assert opt._host_step.run_alone(opt) is True
    for register in (opt.register_step_pre_hook, register_optimizer_step_post_hook):
        hook = register(lambda *_: None)
        assert opt._host_step.run_alone(opt) is False
        hook.remove()
        assert opt._host_step.run_alone(opt) is True


@alone
def test_scalers_attributes_are_followed_whether_they_come_or_go() -> None:
    opt, expected = steady(), steady()
    for i, (scale, found_inf) in enumerate(
        [(None, None), (2.0, 0.0), (2.0, 1.0), (None, 1.0), (None, 0.0), (4.0, None), (None, None)]
    ):
        for _ in range(2):
            for each in (opt, expected):
                set_grads(params_of(each), i)
                if scale is not None:
                    each.grad_scale = torch.tensor(scale)
                if found_inf is not None:
                    each.found_inf = torch.tensor(found_inf)
            assert opt._host_step.run_alone(opt) is True
            with torch.profiler.record_function("a label"):
                expected.register_step_pre_hook(lambda *_: None).remove()
                expected.step()
            for each in (opt, expected):
                vars(each).pop("grad_scale", None)
                vars(each).pop("found_inf", None)
            assert hold_the_same(opt, expected)
            assert opt.steps_applied == expected.steps_applied


@alone
def test_scalers_scalars_are_not_kept() -> None:
    opt = steady()
    for found_inf, is_good in ((torch.tensor(0.0), True), (2.0 * len(opt.state), False)):
        opt.found_inf = found_inf  # type: ignore[assignment]
        held = sys.getrefcount(found_inf)
        assert opt._host_step.run_alone(opt) is is_good
        assert sys.getrefcount(found_inf) == held


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))]
)
def test_a_copy_watches_its_own(make: Callable[[SGD], SGD]) -> None:
    opt, expected = twins()
    other, other_expected = make(opt), copy.deepcopy(expected)
    if other.param_groups is opt.param_groups:
        other_expected = expected
    for i, decay in enumerate((0.5, 0.25)):
        other.param_groups[0]["weight_decay"] = decay
        other_expected.param_groups[0]["weight_decay"] = decay
        for each in (opt, expected, other, other_expected):
            train(each, 2, first=i)
        assert hold_the_same(opt, expected)
        assert hold_the_same(other, other_expected)


def test_two_optimizers_may_share_a_group() -> None:
    opt, expected = twins()
    other, other_expected = SGD(opt.param_groups, lr=0.5), torch.optim.SGD(expected.param_groups)
    assert other.param_groups[0] is opt.param_groups[0]
    for i in range(3):
        for group in (opt.param_groups[0], expected.param_groups[0]):
            group["weight_decay"] = 0.25 * i
        for each in (opt, expected, other, other_expected):
            train(each, 2, first=i)
        assert hold_the_same(opt, expected)
    del opt
    other.param_groups[0]["momentum"] = other_expected.param_groups[0]["momentum"] = 0.5
    for each in (other, other_expected):
        train(each, 2)
    assert hold_the_same(other, other_expected)


def test_threads_change_what_others_watch() -> None:
    opts = [SGD(models((3,)), lr=0.5) for _ in range(2)]
    errors: list[BaseException] = []

    def run(opt: SGD, other: SGD) -> None:
        try:
            for i in range(100):
                opt.param_groups[0]["weight_decay"] = i / 100
                other.param_groups[0]["note"] = other.note = i  # type: ignore[attr-defined]
                train(opt, 1, first=i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in (opts, opts[::-1])]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not errors
    assert hold_the_same(*opts)


def test_collections_between_and_within_steps() -> None:
    opt, expected = twins()
    thresholds = gc.get_threshold()

    class Cycle:
        def __init__(self, group: dict[str, Any]) -> None:
            self.me, self.group = self, group

        def __del__(self) -> None:
            self.group["weight_decay"] = 0.25

    try:
        for i in range(5):
            for each in (opt, expected):
                each.param_groups[0]["weight_decay"] = 0.125
                Cycle(each.param_groups[0])
                gc.collect(0)
                gc.set_threshold(1)
                Cycle(each.param_groups[0])
                train(each, 2, first=i)
                gc.set_threshold(*thresholds)
        assert hold_the_same(opt, expected)
    finally:
        gc.set_threshold(*thresholds)


TAKE_ALL = """
import ctypes
import torch._dynamo  # which cannot be imported without a watcher of its own
callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * 3)(lambda *_: 0)
taken = 0
try:
    while True:
        ctypes.pythonapi.PyDict_AddWatcher(callback)
        taken += 1
except RuntimeError:
    assert taken > 0
"""

STEPS = """
import sys
import test_watch
import test_watching as tests
for change in test_watch.CHANGES:
    test_watch.test_a_change_is_noticed_until_it_is_undone(change)
for way in tests.WAYS:
    tests.test_options_that_change_are_read_anew(way)
test_watch.test_other_dicts_in_the_same_place_in_memory_are_others()
tests.test_scalers_attributes_are_followed_whether_they_come_or_go()
at_exit = tests.steady()
sys.modules["kept for the very end"] = at_exit, at_exit.param_groups, at_exit.state
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python counts a dict's changes itself")
def test_all_is_noticed_where_others_have_taken_all_of_pythons_watchers() -> None:
    paths = f"import sys; sys.path[:0] = {[p for p in sys.path if 'tests' in p]}\n"
    command = [sys.executable, "-c", paths + TAKE_ALL + STEPS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
