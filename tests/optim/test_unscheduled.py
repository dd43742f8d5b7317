"""opt.without_schedules(): what rewrites the rate has it for itself, and schedules return."""

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from support import models, parameter, same_bits, set_grads, train
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler
from torch.optim.swa_utils import SWALR

from fused_warmup import SGD, RateLog, Schedule, linear_warmup
from fused_warmup.schedules import constant, cosine, one_cycle_momentum

WARMUP = linear_warmup(8, 0.1)
MOMENTUM = one_cycle_momentum(10)
OWN = constant(0.5)
BACKENDS = [None, "reference"]
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)


def make(backend: str | None = None, **options: Any) -> SGD:
    """Three groups: the optimizer's schedules, one of its own, none."""
    first, second, third = models((5, 3), (7,), (2,))
    groups = [
        {"params": [first]},
        {"params": [second], "schedule": OWN},
        {"params": [third], "schedule": None, "momentum_schedule": None},
    ]
    options = {"schedule": WARMUP, "momentum_schedule": MOMENTUM, **options}
    return SGD(groups, lr=0.5, momentum=0.9, backend=backend, **options)


def advance(opt: Any, step: int) -> None:
    set_grads([p for group in opt.param_groups for p in group["params"]], step)
    opt.step()


def schedules(opt: SGD) -> list[tuple[Any, Any]]:
    return [(group["schedule"], group["momentum_schedule"]) for group in opt.param_groups]


NONE = (None, None)
HAD = [
    (WARMUP.to_dict(), MOMENTUM.to_dict()),
    (OWN.to_dict(), MOMENTUM.to_dict()),
    NONE,
]


@every_backend
def test_the_base_is_the_rate_inside_and_the_schedule_goes_on_after(backend: str | None) -> None:
    opt = make(backend)
    advance(opt, 0)
    with opt.without_schedules():
        assert schedules(opt) == [NONE] * 3
        advance(opt, 1)
        assert opt.get_last_lr() == [0.5, 0.5, 0.5]
        assert opt.scheduler().get_last_lr() == [0.5, 0.5, 0.5]
    assert schedules(opt) == HAD
    advance(opt, 2)
    assert opt.get_last_lr() == pytest.approx([0.5 * WARMUP(2), 0.25, 0.5])
    assert opt.steps_applied == 3


@every_backend
def test_inside_it_is_an_optimizer_without_schedules_bit_for_bit(backend: str | None) -> None:
    opt, theirs = make(backend), torch.optim.SGD(models((5, 3), (7,), (2,)), lr=0.5, momentum=0.9)
    with opt.without_schedules():
        ours = train(opt, 3)
    for one, other in zip(ours, train(theirs, 3), strict=True):
        assert all(map(same_bits, one, other))
    twin = make(backend)
    twin.load_state_dict(copy.deepcopy(opt.state_dict()))
    params = [p for group in twin.param_groups for p in group["params"]]
    for p, now in zip(params, ours[-1], strict=True):
        p.data.copy_(now)
    for one, other in zip(train(opt, 2, first=3), train(twin, 2, first=3), strict=True):
        assert all(map(same_bits, one, other))


def test_schedules_return_when_an_exception_passes() -> None:
    opt = make()
    with pytest.raises(KeyboardInterrupt), opt.without_schedules():
        raise KeyboardInterrupt
    assert schedules(opt) == HAD
    opt.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="learning rate"), opt.without_schedules():
        advance(opt, 0)
    assert schedules(opt) == HAD


def test_the_rate_stays_what_it_is_then() -> None:
    opt = make()
    with opt.without_schedules():
        opt.param_groups[0]["lr"] = 0.125  # found inside
    advance(opt, 0)
    assert opt.get_last_lr()[0] == 0.125 * WARMUP(0)


def added(opt: SGD, **options: Any) -> dict[str, Any]:
    opt.add_param_group({"params": [parameter(torch.ones(4))], **options})
    return opt.param_groups[-1]


def test_groups_added_inside_get_what_they_would_have_got() -> None:
    opt = make()
    other = constant(0.25)
    with opt.without_schedules():
        plain = added(opt)
        none = added(opt, schedule=None)
        own = added(opt, schedule=other)
        assert plain["schedule"] is none["schedule"] is None
        assert own["schedule"] == other.to_dict()
        advance(opt, 0)
        assert opt.get_last_lr() == [0.5, 0.5, 0.5, 0.5, 0.5, 0.125]
    assert schedules(opt)[:3] == HAD
    assert plain["schedule"] == WARMUP.to_dict()
    assert (none["schedule"], none["momentum_schedule"]) == (None, MOMENTUM.to_dict())
    assert own["schedule"] == other.to_dict()
    assert added(opt)["schedule"] == WARMUP.to_dict()


def test_a_wrapper_that_passes_for_the_optimizer() -> None:
    """As Lightning's and Fabric's: methods of SGD's class run on the wrapper."""

    class Wrapper:
        def __init__(self, optimizer: SGD) -> None:
            self._optimizer = optimizer
            self.__class__ = type("FabricSGD", (Wrapper, SGD), {})

        def __getattr__(self, name: str) -> Any:
            return getattr(self._optimizer, name)

    opt = make()
    wrapper: Any = Wrapper(opt)
    with wrapper.without_schedules():
        group = added(opt)
        assert schedules(opt) == [NONE] * 4
    assert schedules(opt)[:3] == HAD
    assert group["schedule"] == WARMUP.to_dict()


def test_groups_removed_or_reordered_inside() -> None:
    opt = make()
    with opt.without_schedules():
        opt.param_groups.reverse()
        del opt.param_groups[0]
    assert schedules(opt) == [HAD[1], HAD[0]]


def test_a_schedule_given_inside_stays() -> None:
    opt = make()
    new = constant(0.75)
    with opt.without_schedules():
        opt.param_groups[0]["schedule"] = new
    advance(opt, 0)
    assert opt.get_last_lr()[0] == 0.375
    assert schedules(opt)[1:] == HAD[1:]


def test_blocks_within_blocks() -> None:
    opt = make()
    with opt.without_schedules():
        first = added(opt)
        with opt.without_schedules():
            second, none = added(opt), added(opt, schedule=None)
            opt.param_groups[1]["schedule"] = OWN.to_dict()
        assert schedules(opt)[0] == NONE
        assert first["schedule"] is second["schedule"] is none["schedule"] is None
        with opt.without_schedules():
            assert opt.param_groups[1]["schedule"] is None
        assert opt.param_groups[1]["schedule"] == OWN.to_dict()
    assert schedules(opt)[:3] == HAD
    assert first["schedule"] == second["schedule"] == WARMUP.to_dict()
    assert none["schedule"] is None


def test_a_state_of_inside_has_no_schedules_and_loads() -> None:
    opt = make()
    with opt.without_schedules():
        advance(opt, 0)
        saved = copy.deepcopy(opt.state_dict())
        copied, pickled = copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))
        opt.load_state_dict(saved)
        assert schedules(opt) == [NONE] * 3
    assert [group["schedule"] for group in saved["param_groups"]] == [None] * 3
    assert schedules(opt) == HAD
    assert schedules(copied) == schedules(pickled) == [NONE] * 3
    assert added(copied)["schedule"] is None


def test_a_state_of_before_may_be_loaded_inside() -> None:
    opt = make()
    advance(opt, 0)
    saved = copy.deepcopy(opt.state_dict())
    with opt.without_schedules():
        advance(opt, 1)
        opt.load_state_dict(saved)
    assert schedules(opt) == HAD
    assert opt.steps_applied == 1
    assert added(opt)["schedule"] == WARMUP.to_dict()


def test_it_may_be_entered_as_a_decorator_and_again() -> None:
    opt = make()

    @opt.without_schedules()
    def inside() -> list[Any]:
        return schedules(opt)

    assert inside() == [NONE] * 3
    assert schedules(opt) == HAD
    assert inside() == [NONE] * 3


def test_the_rate_log_tells_what_was_used() -> None:
    opt = make()
    log = RateLog(opt, 4)
    advance(opt, 0)
    with opt.without_schedules():
        advance(opt, 1)
    advance(opt, 2)
    rates = [step.lr[0] for step in log.read().steps()]
    assert rates == pytest.approx([0.5 * WARMUP(0), 0.5, 0.5 * WARMUP(2)])


# -- what takes a scheduler's place ----------------------------------------------------------------


class FinderRates(LRScheduler):
    """torch_lr_finder.lr_finder.ExponentialLR; Lightning's _ExponentialLR has the same rates."""

    def __init__(self, optimizer: Any, end_lr: float, num_iter: int) -> None:
        self.end_lr, self.num_iter = end_lr, num_iter
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        r = self.last_epoch / (self.num_iter - 1)
        return [base * (self.end_lr / base) ** r for base in self.base_lrs]


def range_test(opt: Any, start_lr: float, end_lr: float, num_iter: int) -> list[float]:
    """What a finder of rates does; returns the rates that steps had."""
    saved = copy.deepcopy(opt.state_dict())
    for group in opt.param_groups:
        group["lr"] = start_lr
    rates = FinderRates(opt, end_lr, num_iter)
    used = []
    for step in range(num_iter):
        advance(opt, step)
        used.append(opt.get_last_lr()[0])
        rates.step()
    opt.load_state_dict(saved)  # reset()
    return used


@every_backend
def test_a_finder_of_rates_has_its_rates(backend: str | None) -> None:
    opt = make(backend)
    for step in range(2):
        advance(opt, step)
    with opt.without_schedules():
        used = range_test(opt, 1e-4, 1.0, 9)
    assert used == pytest.approx([1e-4 * 10 ** (i / 2) for i in range(9)])
    assert (opt.steps_applied, schedules(opt)) == (2, HAD)
    advance(opt, 2)
    assert opt.get_last_lr() == pytest.approx([0.5 * WARMUP(2), 0.25, 0.5])


def test_stochastic_weight_averaging_anneals_from_the_rate_in_force() -> None:
    """As docs/quick_start.md says: the rate of the moment becomes the base, without a schedule."""
    opt = SGD(models((3,)), lr=0.5, schedule=cosine(10))
    theirs = torch.optim.SGD(models((3,)), lr=0.5)
    decay = CosineAnnealingLR(theirs, 10)
    for step in range(6):
        advance(opt, step)
        advance(theirs, step)
        decay.step()
    for group, lr in zip(opt.param_groups, opt.scheduler().get_last_lr(), strict=True):
        group["lr"], group["schedule"] = lr, None
    swa, their_swa = (SWALR(o, swa_lr=0.05, anneal_epochs=3) for o in (opt, theirs))
    for step in range(5):
        advance(opt, step)
        assert opt.get_last_lr() == pytest.approx([theirs.param_groups[0]["lr"]], rel=1e-12)
        swa.step()
        their_swa.step()
    assert math.isclose(opt.get_last_lr()[0], 0.05)


def test_it_works_on_subclasses_and_under_schedulers() -> None:
    class Sub(SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    opt = Sub(models((3,)), lr=0.5, schedule=Schedule.from_dict(WARMUP.to_dict()))
    decay = ExponentialLR(opt, 0.5)
    with opt.without_schedules():
        advance(opt, 0)
        decay.step()
        advance(opt, 1)
        assert opt.get_last_lr() == [0.25]
    advance(opt, 2)
    assert opt.get_last_lr() == [0.25 * WARMUP(2)]
