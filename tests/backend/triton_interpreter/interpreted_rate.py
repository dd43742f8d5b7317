"""The Triton kernel's learning rate, in Triton's interpreter."""

from decimal import Decimal

import numpy as np
import pytest
import torch
from cases import DTYPES, SIZES, Pair, bytes_of, parameters

from fused_warmup import SGD
from fused_warmup._step.plan import Plan
from fused_warmup.schedules import Kind, PastEnd, Schedule, Segment, cosine, linear_warmup


def segments():
    """Return a segment of every kind, with every feature of the clock among them."""
    return {
        "linear": Segment(length=7, a=0.1, b=1.0),
        "poly": Segment(length=40, p=0.9, k=1.5),
        "poly beyond": Segment(past_end=PastEnd.CONTINUE, length=40, p=3.0, a=0.0, b=1.0),
        "poly beyond, fractional": Segment(past_end=PastEnd.CONTINUE, length=40, p=0.5),
        "cos": Segment(Kind.COS, length=1000, b=0.01),
        "cos of half waves": Segment(Kind.COS, length=50, m=5.0, p=2.0, k=0.5),
        "cos repeated": Segment(
            Kind.COS, length=30, period=30, log_cycle_gain=-0.1, stair=4, shift=0.5
        ),
        "exp": Segment(Kind.EXP, PastEnd.CONTINUE, length=10, p=-0.5, origin=-3),
        "exp in stairs": Segment(Kind.EXP, PastEnd.CONTINUE, length=30, p=-0.7, stair=30),
        "before its origin": Segment(
            Kind.EXP, PastEnd.CONTINUE, length=9, p=-0.5, origin=5, stair=4
        ),
        "cycles before its origin": Segment(length=7, origin=5, period=7, log_cycle_gain=-0.2),
        "far origin": Segment(length=2.0**62, origin=-(2**61)),
        "far zero": Segment(length=2.0**62, origin=2**62, past_end=PastEnd.CONTINUE, p=0.5),
        "far stair": Segment(Kind.EXP, PastEnd.CONTINUE, length=2.0**61, p=-1.0, stair=2**62),
        "far cycles": Segment(Kind.COS, period=2**61 + 1, length=2.0**61, origin=-7),
        "waves": Segment(Kind.COS, PastEnd.CONTINUE, length=3.0, b=0.5),
        "pow": Segment(Kind.POW, PastEnd.CONTINUE, length=100, p=0.5, shift=1.0, a=2.0, b=0.5),
        "table": Segment(Kind.TABLE, values=tuple(0.3 / (i + 1) for i in range(50)), origin=2),
        "table repeated": Segment(
            Kind.TABLE, values=(1.0, 0.5, 0.7), period=3, log_cycle_gain=-0.01, b=0.25
        ),
    }


STEPS = (
    0,
    1,
    2,
    6,
    7,
    8,
    29,
    30,
    31,
    39,
    40,
    41,
    99,
    100,
    999,
    1000,
    10**6,
    2**31 + 1,
    2**40,
    2**62,
)


# log(0) where a curve begins or ends: -inf, and its exp 0, is what the kernel means.
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_rates_of_every_kind_are_the_schedules_to_an_ulp_of_float32():
    schedules = {name: Schedule((segment,)) for name, segment in segments().items()}
    joined = linear_warmup(30).then(cosine(60)).then(Schedule((Segment.constant(0.125),)))
    schedules |= {"joined": joined, "joined again": joined, "none": None}
    schedules["product"] = joined * linear_warmup(9) * cosine(50)
    schedules["nothing times infinity"] = Schedule((Segment.constant(0.0),)) * schedules["exp"]
    groups = [
        {"params": parameters((0,)), "schedule": schedule, "lr": 0.1 * (i + 1)}
        for i, schedule in enumerate(schedules.values())
    ]
    opt = SGD(groups, backend="triton")
    for t in STEPS:
        opt.steps_applied = t
        opt.step()
        assert opt.steps_applied == t + 1
        for name, group, lr in zip(schedules, groups, opt.get_last_lr(), strict=True):
            factor = 1.0 if schedules[name] is None else schedules[name](t)
            expected = group["lr"] * factor
            # exp(e log x) for a power: an error of 2**-53 times the logarithm of the result.
            assert abs(lr - expected) <= 1e-13 * abs(expected), (name, t)
            if abs(expected) < float(np.finfo(np.float32).max):  # "poly beyond" goes far beyond
                assert abs(np.float32(lr) - np.float32(expected)) <= abs(
                    np.spacing(np.float32(expected))
                )


def test_parameters_follow_the_schedule():
    schedule = linear_warmup(3).then(cosine(5))
    pair = Pair(lambda: parameters(SIZES[1:5]), lr=0.1, momentum=0.9, schedule=schedule)
    for _ in range(10):
        for opt in pair.both():
            opt.step()
    assert pair.ours.steps_applied == 10
    # numpy's cosine and libm's differ in the last bit of a double at most.
    for p, q in zip(pair.params(pair.ours), pair.params(pair.theirs), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_lr_is_read_when_the_step_runs(dtype, monkeypatch):
    lr = torch.tensor(0.1, dtype=dtype)
    opt = SGD(parameters((5,)), lr=lr, backend="triton", schedule=linear_warmup(4))
    opt.step()
    monkeypatch.setattr(Plan, "run_carefully", None)  # which would copy it
    for value in (0.7, 2.0**-12, 0.0):
        lr.fill_(value)
        t = opt.steps_applied
        opt.step()
        assert opt.get_last_lr() == [float(lr) * (t / 4)]


@pytest.mark.parametrize(
    "options",
    [
        {"lr": np.float32(0.1), "momentum": np.float64(0.9), "weight_decay": np.float16(0.01)},
        {"lr": np.int64(1), "momentum": np.array(0.5), "nesterov": np.bool_(True)},
        {"momentum": 0.9, "nesterov": 1, "maximize": np.bool_(False)},
        {"weight_decay": torch.tensor(0.01), "dampening": torch.tensor(0.5), "momentum": 0.9},
        {"lr": np.array(1, dtype=np.uint8), "weight_decay": torch.tensor([0.5]).bfloat16()},
        {"maximize": torch.tensor(True), "momentum": 0.9, "nesterov": 2.0},
        {"maximize": None, "momentum": 1, "weight_decay": np.float32(0.01)},
    ],
    ids=str,
)
def test_whatever_stands_for_a_number_takes_the_short_path(options, monkeypatch):
    pair = Pair(lambda: parameters((5, 33)), **{"lr": 0.1, **options})
    pair.step()
    monkeypatch.setattr(Plan, "run_carefully", None)
    for _ in range(2):
        pair.ours.step()
    monkeypatch.undo()
    for _ in range(2):
        pair.theirs.step()
    pair.check()


def test_a_tensor_among_the_options_is_read_each_step():
    decay = torch.tensor(0.0)
    p = torch.ones(5, requires_grad=True)
    p.grad = torch.zeros(5)
    opt = SGD([p], lr=0.5, weight_decay=decay, backend="triton")
    opt.step()
    assert p.tolist() == [1.0] * 5
    decay.data.fill_(0.5)  # which no version counter tells of
    opt.step()
    assert p.tolist() == [0.75] * 5


@pytest.mark.parametrize("lr", ["0.1", Decimal("0.1"), 1j, torch.ones(2), 10**400, None], ids=str)
def test_what_stands_for_no_number_changes_nothing(lr):
    opt = SGD(parameters((5,)), lr=0.1, backend="triton")
    opt.step()
    before = bytes_of(opt)
    opt.param_groups[0]["lr"] = lr
    with pytest.raises((TypeError, ValueError), match=r"lr|learning rate"):
        opt.step()
    assert bytes_of(opt) == before
