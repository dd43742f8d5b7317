"""What moves an attached schedule's count and rates, and what is refused."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau
from torch.utils._python_dispatch import TorchDispatchMode

import fused_warmup
from fused_warmup import Attached, RateLog, attach, constant, linear_warmup

WARMUP = linear_warmup(4, start=0.2)
LR = 0.5
RATES = [LR * factor for factor in WARMUP(range(8))]


def make(cls: Any = AdamW, n: int = 1, **options: Any) -> Any:
    torch.manual_seed(0)
    return cls([torch.nn.Parameter(torch.randn(3, 3)) for _ in range(n)], lr=LR, **options)


def fused() -> Any:
    return make(AdamW, fused=True)


def plain() -> Any:
    return make(RMSprop)


both = pytest.mark.parametrize("build", [fused, plain])


def step(optimizer: Any, *args: Any) -> Any:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    return optimizer.step(*args)


def rate(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


# -- the count moves by the step that was applied ------------------------------------------------


@both
def test_a_step_that_raises_is_not_counted(build: Callable[[], Any]) -> None:
    optimizer = build()
    handle = attach(optimizer, WARMUP)
    step(optimizer)

    def closure() -> Tensor:
        assert handle.steps_applied == 1  # this one is not over
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            step(optimizer, closure)
        assert handle.steps_applied == 1
        assert optimizer.state_dict()["param_groups"][0]["steps_applied"] == 1
    step(optimizer)
    assert (handle.steps_applied, handle.get_last_lr()) == (2, [RATES[1]])


@both
def test_a_step_without_gradients_is_not_counted(build: Callable[[], Any]) -> None:
    optimizer = build()
    handle = attach(optimizer, WARMUP)
    optimizer.step()
    step(optimizer)
    optimizer.zero_grad()
    optimizer.step()
    assert handle.steps_applied == 1


def test_gradients_that_a_closure_makes_are_counted() -> None:
    optimizer = plain()
    handle = attach(optimizer, WARMUP)
    (p,) = optimizer.param_groups[0]["params"]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    for _ in range(2):
        assert optimizer.step(closure) is not None
    assert handle.steps_applied == 2


@pytest.mark.parametrize("found_inf", [0.0, 1.0, 2.0, torch.inf])
def test_found_inf_of_any_size_skips(found_inf: float) -> None:
    optimizer = make(SGD, fused=True)
    handle = attach(optimizer, WARMUP)
    step(optimizer)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(1.0), torch.tensor(found_inf)
    step(optimizer)
    assert handle.steps_applied == (2 if found_inf == 0 else 1)


def test_a_skipped_step_that_raises_takes_nothing_back() -> None:
    optimizer = fused()
    handle = attach(optimizer, WARMUP)
    step(optimizer)
    optimizer.found_inf = torch.tensor(1.0)
    with pytest.raises(ZeroDivisionError):
        step(optimizer, lambda: 1 / 0)
    assert handle.steps_applied == 1


@both
def test_a_subclass_whose_step_calls_the_one_above_counts_once(build: Callable[[], Any]) -> None:
    class Mine(AdamW):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    # Unlike torch's own it is not known to take a tensor; but the user says so.
    lr: Any = LR if build is plain else torch.tensor(LR)
    optimizer = Mine([torch.nn.Parameter(torch.zeros(2))], lr=lr)
    handle = attach(optimizer, WARMUP)
    for i in range(3):
        step(optimizer)
        assert (handle.steps_applied, handle.get_last_lr()) == (i + 1, [RATES[i]])


def test_by_the_cuda_kernel(emulate: Callable[[], list]) -> None:
    plans = emulate()
    optimizer = make(SGD, fused=True)
    handle = attach(optimizer, WARMUP)
    for i in range(5):
        optimizer.found_inf = torch.tensor(float(i == 2))
        optimizer.grad_scale = torch.tensor(1.0)
        step(optimizer)
    assert (handle.steps_applied, handle.get_last_lr()) == (4, [RATES[3]])
    assert [plan.n_blocks for plan in plans] == [1]


def test_by_plain_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_warmup._backend, "kernel_of", lambda device: None)
    optimizer = fused()
    handle = attach(optimizer, WARMUP)
    for i in range(5):
        optimizer.found_inf = torch.tensor(float(i == 2))
        step(optimizer)
    assert (handle.steps_applied, handle.get_last_lr()) == (4, [RATES[3]])


# -- nothing is read back ------------------------------------------------------------------------


class Reads(TorchDispatchMode):
    """Counts values that go from a device to the host."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def reads_of(optimizer: Any) -> int:
    for _ in range(2):
        step(optimizer)
    with Reads() as reads:
        step(optimizer)
    return reads.n


@pytest.mark.parametrize("name", ["AdamW", "Adam", "SGD", "Adagrad"])
def test_fused_optimizers_read_nothing(name: str) -> None:
    optimizer = make(getattr(torch.optim, name), n=3, fused=True)
    attach(optimizer, WARMUP)
    assert reads_of(optimizer) == 0


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", ["AdamW", "Adam", "SGD", "Adagrad", "RMSprop", "NAdam", "Rprop"])
def test_others_read_no_more_than_without_us(name: str, foreach: bool) -> None:
    cls = getattr(torch.optim, name)
    optimizer = make(cls, n=3, foreach=foreach)
    attach(optimizer, WARMUP)
    assert reads_of(optimizer) == reads_of(make(cls, n=3, foreach=foreach))


def test_muon_reads_no_more_than_without_us() -> None:
    optimizer = make(torch.optim.Muon)
    attach(optimizer, WARMUP)
    assert reads_of(optimizer) == 0


def test_the_handle_says_who_gets_what_and_how_to_get_the_better() -> None:
    assert "cpu fills" in repr(attach(fused(), WARMUP))
    assert "fused=True" in repr(attach(make(AdamW), WARMUP))
    assert "capturable=True" in repr(attach(plain(), WARMUP))


def test_numbers_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = plain()
    handle = attach(optimizer, WARMUP)
    monkeypatch.setattr(torch.cuda, "_initialized", True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="replay that of its capture: build it with capturable"):
        step(optimizer)
    assert handle.steps_applied == 0


# -- groups --------------------------------------------------------------------------------------


@both
def test_each_group_may_have_its_own(build: Callable[[], Any]) -> None:
    optimizer = build()
    optimizer.param_groups[0]["schedule"] = WARMUP
    handle = attach(optimizer)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.25})
    own = {"params": [torch.nn.Parameter(torch.ones(2))], "schedule": constant(0.5)}
    optimizer.add_param_group(own)
    step(optimizer)
    assert handle.get_last_lr() == [RATES[0], 0.25, 0.5 * LR]
    assert [float(g["lr"]) for g in optimizer.param_groups] == handle.get_last_lr()


@both
def test_many_groups_that_come_later(build: Callable[[], Any]) -> None:
    optimizer = build()
    handle = attach(optimizer, WARMUP)
    for n in range(1, 101):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": float(n)})
    step(optimizer)
    assert handle.get_last_lr() == [RATES[0], *(n * WARMUP(0) for n in range(1, 101))]


@both
def test_the_base_is_initial_lr(build: Callable[[], Any]) -> None:
    optimizer = build()
    handle = attach(optimizer, WARMUP)
    assert optimizer.param_groups[0]["initial_lr"] == LR
    step(optimizer)
    optimizer.param_groups[0]["initial_lr"] = 4.0
    step(optimizer)
    assert handle.get_last_lr() == [4.0 * WARMUP(1)]
    optimizer.param_groups[0]["schedule"] = constant(0.25)
    step(optimizer)
    assert (handle.get_last_lr(), handle.steps_applied) == ([1.0], 3)
    for wrong in (-1.0, torch.nan, "0.1", None):
        optimizer.param_groups[0]["initial_lr"] = wrong
        with pytest.raises((TypeError, ValueError), match="base rate of group 0"):
            step(optimizer)
        assert handle.steps_applied == 3


@both
def test_what_scales_the_rate_scales_the_base(build: Callable[[], Any]) -> None:
    optimizer = build()
    handle = attach(optimizer, WARMUP)
    plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for i in range(3):
        step(optimizer)
        plateau.step(1.0 if i else 2.0)
    plateau.step(1.0)
    step(optimizer)
    assert handle.get_last_lr() == pytest.approx([RATES[3] * 0.25], rel=1e-15)
    assert optimizer.param_groups[0]["initial_lr"] == pytest.approx(LR * 0.25, rel=1e-15)


@both
@pytest.mark.parametrize(
    "scheduler", [lambda o: LambdaLR(o, lambda t: 0.5), lambda o: CosineAnnealingLR(o, 3)]
)
def test_a_scheduler_on_top_is_refused_at_its_first_change(
    build: Callable[[], Any], scheduler: Any
) -> None:
    optimizer = build()
    handle = attach(optimizer, constant())
    own = scheduler(optimizer)

    def train() -> None:
        for _ in range(3):
            step(optimizer)
            own.step()

    with pytest.raises(RuntimeError, match="drop the scheduler and its step"):
        train()
    assert handle.steps_applied <= 1


def test_a_rate_of_zero_is_scaled_by_nothing() -> None:
    optimizer = plain()
    attach(optimizer, linear_warmup(4))
    step(optimizer)
    optimizer.param_groups[0]["lr"] = 0.1
    with pytest.raises(RuntimeError, match=r"set group\['initial_lr'\]"):
        step(optimizer)


# -- what is refused -----------------------------------------------------------------------------


class SkipsByItself(Optimizer):
    """As apex's and others' fused optimizers: GradScaler leaves overflows to it."""

    _step_supports_amp_scaling = True

    def __init__(self, params: Any, lr: Any) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        """Do nothing."""


def scheduled() -> Optimizer:
    optimizer = plain()
    CosineAnnealingLR(optimizer, 3)
    return optimizer


def attached() -> Optimizer:
    optimizer = plain()
    attach(optimizer, WARMUP)
    return optimizer


@pytest.mark.parametrize(
    ("build", "schedule", "error", "says"),
    [
        (lambda: make(fused_warmup.SGD), WARMUP, TypeError, "pass schedule= when it is built"),
        (lambda: object(), WARMUP, TypeError, "pass the torch.optim optimizer itself"),
        (attached, WARMUP, RuntimeError, r"call remove\(\)"),
        (scheduled, WARMUP, RuntimeError, "from_torch"),
        (lambda: make(SkipsByItself), WARMUP, RuntimeError, "_step_supports_amp_scaling = False"),
        (plain, None, ValueError, "no group has a schedule"),
        (plain, "linear", ValueError, "no schedule's text"),
        (plain, 3, TypeError, "must be a Schedule"),
    ],
)
def test_refusals_change_nothing(build: Any, schedule: Any, error: Any, says: str) -> None:
    optimizer = build()
    before = [dict(group) for group in getattr(optimizer, "param_groups", [])]
    hooks = len(getattr(optimizer, "_optimizer_step_pre_hooks", []))
    with pytest.raises(error, match=says):
        attach(optimizer, schedule)
    assert [dict(group) for group in getattr(optimizer, "param_groups", [])] == before
    assert len(getattr(optimizer, "_optimizer_step_pre_hooks", [])) == hooks


def test_what_skips_by_itself_may_be_given_a_tensor() -> None:
    torch.manual_seed(0)
    optimizer = SkipsByItself([torch.nn.Parameter(torch.ones(2))], lr=torch.tensor(LR))
    handle = attach(optimizer, WARMUP)
    optimizer.found_inf = torch.tensor(1.0)  # type: ignore[attr-defined]
    step(optimizer)
    assert handle.steps_applied == 0


# -- checkpoints and copies ----------------------------------------------------------------------


def saved(optimizer: Optimizer) -> Any:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@both
def test_a_state_dict_is_of_its_moment(build: Callable[[], Any]) -> None:
    optimizer = build()
    handle = attach(optimizer, WARMUP)
    step(optimizer)
    kept = optimizer.state_dict()
    step(optimizer)
    assert kept["param_groups"][0]["steps_applied"] == 1
    assert float(kept["param_groups"][0]["lr"]) == RATES[0]
    lr, count = optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["steps_applied"]
    optimizer.load_state_dict(kept)
    assert handle.steps_applied == 1
    assert optimizer.param_groups[0]["steps_applied"] is count
    if isinstance(lr, Tensor):  # whose address a graph may hold
        assert optimizer.param_groups[0]["lr"] is lr
    step(optimizer)
    assert (handle.steps_applied, handle.get_last_lr()) == (2, [RATES[1]])


@pytest.mark.parametrize("first", [fused, plain])
def test_a_checkpoint_of_torchs_own_training(first: Callable[[], Any]) -> None:
    theirs = first()
    LambdaLR(theirs, lambda t: 0.125)
    step(theirs)
    optimizer = first()
    handle = attach(optimizer, WARMUP)
    step(optimizer)
    optimizer.load_state_dict(saved(theirs))
    assert handle.steps_applied == 1  # there is none in it
    handle.steps_applied = 2
    step(optimizer)
    assert handle.get_last_lr() == [RATES[2]]


def test_a_checkpoint_that_is_refused_changes_nothing() -> None:
    optimizer = make(RMSprop, n=2)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
    handle = attach(optimizer, WARMUP)
    step(optimizer)
    good = saved(optimizer)
    step(optimizer)
    for key, value in (("steps_applied", torch.tensor(7)), ("initial_lr", -1.0)):
        wrong = copy.deepcopy(good)
        wrong["param_groups"][1][key] = value
        with pytest.raises(ValueError, match=r"step counts \[1, 7\]|base rate of group 1"):
            optimizer.load_state_dict(wrong)
        assert handle.steps_applied == 2
    optimizer.load_state_dict(good)
    assert handle.steps_applied == 1


def test_another_schedule_in_the_checkpoint_is_told() -> None:
    optimizer, other = plain(), plain()
    handle = attach(optimizer, WARMUP)
    attach(other, constant())
    with pytest.warns(UserWarning, match="which stays"):
        optimizer.load_state_dict(saved(other))
    step(optimizer)
    assert handle.get_last_lr() == [RATES[0]]


@both
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_when_attached_to(build: Callable[[], Any], copied: Any) -> None:
    optimizer = build()
    handle = attach(optimizer, WARMUP)
    for _ in range(2):
        step(optimizer)
    other = attach(copied(optimizer))
    twin = copied(handle)
    assert isinstance(twin, Attached)
    for each in (other, twin):
        assert each.steps_applied == 2
        step(each.optimizer)
        assert (each.steps_applied, each.get_last_lr()) == (3, [RATES[2]])
    assert handle.steps_applied == 2


@both
def test_remove(build: Callable[[], Any]) -> None:
    optimizer = build()
    before = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    defaults = dict(optimizer.defaults)
    handle = attach(optimizer, WARMUP)
    step(optimizer)
    handle.remove()
    assert {k: v for k, v in optimizer.param_groups[0].items() if k != "params"} == before
    assert optimizer.defaults == defaults
    step(optimizer)
    assert rate(optimizer) == LR
    attach(optimizer, WARMUP)


# -- what trainers and loggers see ---------------------------------------------------------------


@both
def test_its_face_as_a_scheduler(build: Callable[[], Any]) -> None:
    optimizer = build()
    handle = attach(optimizer, WARMUP)
    scheduler = handle.scheduler()
    look = scheduler.optimizer
    assert look == optimizer
    assert isinstance(look, type(optimizer))
    seen, shown = [], []
    for _ in range(3):
        shown += [group["lr"] for group in look.param_groups]  # as Lightning's monitor reads it
        step(optimizer)
        scheduler.step()
        seen += scheduler.get_last_lr()
    assert seen == RATES[1:4]
    assert shown == RATES[:3]
    with pytest.raises(TypeError, match="only show the rates"):
        look.param_groups[0]["lr"] = 1.0
    scheduler.load_state_dict(scheduler.state_dict())
    scheduler.base_lrs = [4.0]
    step(optimizer)
    assert handle.get_last_lr() == [4.0 * WARMUP(3)]
    assert scheduler.base_lrs == [4.0]
    pickle.loads(pickle.dumps(scheduler))


@both
def test_rate_log(build: Callable[[], Any]) -> None:
    optimizer = build()
    handle = attach(optimizer, WARMUP)
    log = RateLog(handle)
    for i in range(3):
        if i == 1:
            optimizer.zero_grad()
            optimizer.step()
        else:
            step(optimizer)
    assert repr(log) == f"RateLog({type(optimizer).__name__}, size=1024)"
    rows = [(row.t, row.skipped, row.lr[0]) for row in log.read().steps() if not row.skipped]
    assert rows == [(0, False, RATES[0]), (1, False, RATES[1])]
