"""LARS beside timm's Lars: the same steps for all of its options, and `convert` in mid-training."""

import pytest
import torch
from support import models, train
from support.lars import LARS_OPTIONS
from timm.optim import Lars
from torch.optim.lr_scheduler import LambdaLR

from fused_warmup import LARS, convert

SHAPES = ((3,), (130,), (40, 71), (8, 3, 3, 3))
SHARED = ("momentum", "dampening", "weight_decay", "nesterov", "trust_clip")
CASES = [
    {name: options[name] for name in SHARED}
    for options in LARS_OPTIONS
    if options["adapt"] and not options["maximize"] and not options["lr_in_momentum"]
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("always", [True, False], ids=["always adapt", "where decayed"])
@pytest.mark.parametrize("options", CASES, ids=str)
def test_steps_are_those_of_timm(options, always, dtype) -> None:
    """Timm takes norms and rates in the parameter's own dtype: some roundings of it a step."""
    theirs = Lars(
        models(*SHAPES, dtype=dtype), lr=2.0, trust_coeff=0.02, always_adapt=always, **options
    )
    ours = LARS(
        models(*SHAPES, dtype=dtype),
        lr=2.0,
        trust_coefficient=0.02,
        eps=1e-8,
        lr_in_momentum=False,
        adapt=always or options["weight_decay"] != 0,
        **options,
    )
    eps = torch.finfo(dtype).eps
    for found, expected in zip(train(ours, 5), train(theirs, 5), strict=True):
        torch.testing.assert_close(found, expected, rtol=32 * eps, atol=32 * eps)


def test_convert_continues_a_run() -> None:
    def make() -> tuple[list[torch.Tensor], Lars, LambdaLR]:
        params = models(*SHAPES)
        groups = [{"params": params[:2], "weight_decay": 0.0}, {"params": params[2:]}]
        opt = Lars(groups, lr=2.0, momentum=0.9, weight_decay=0.01, trust_coeff=0.02)
        return params, opt, LambdaLR(opt, lambda t: 1 / (1 + t))

    runs = []
    for converts in (False, True):
        params, opt, scheduler = make()
        train(opt, 3, after=lambda step, s=scheduler: s.step())
        if converts:
            opt = convert(opt, scheduler, steps=10)
            assert isinstance(opt, LARS)
            assert [group["adapt"] for group in opt.param_groups] == [False, True]
            assert opt.steps_applied == 3
            train(opt, 3, first=3)
        else:
            train(opt, 3, first=3, after=lambda step, s=scheduler: s.step())
        runs.append(params)
    for found, expected in zip(runs[1], runs[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
