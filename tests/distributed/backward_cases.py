"""What ranks do in tests/distributed/test_step_in_backward.py."""

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from distributed.common import fingerprint, loss_of, make_model, make_optimizer, rank
from distributed.fsdp_cases import shard
from torch.nn.parallel import DistributedDataParallel as DDP

from fused_warmup.distributed import StepInBackward


def ddp(bucket_mb: float, steps: int) -> tuple[Any, bool]:
    """Also whether parameters had moved when backward was over."""
    model = make_model()
    wrapped = DDP(model, gradient_as_bucket_view=True, bucket_cap_mb=bucket_mb)
    opt = make_optimizer(model)
    StepInBackward(opt, wrapped)
    early = True
    for step in range(steps):
        opt.zero_grad()
        before = [p.detach().clone() for p in model.parameters()]
        loss_of(wrapped, step, rank()).backward()
        early &= not any(map(torch.equal, before, model.parameters()))
        opt.step()
    return fingerprint(opt), early


def accumulated(steps: int) -> tuple[Any, Any]:
    """The usual loop and the one with steps in backward."""
    found = []
    for inside in (False, True):
        model = make_model()
        wrapped = DDP(model, gradient_as_bucket_view=True)
        opt = make_optimizer(model)
        handle = StepInBackward(opt, wrapped) if inside else None
        for step in range(steps):
            opt.zero_grad()
            with ExitStack() as stack:
                stack.enter_context(wrapped.no_sync())
                if handle is not None:
                    stack.enter_context(handle.accumulate())
                loss_of(wrapped, 10 + step, rank()).backward()
            loss_of(wrapped, step, rank()).backward()
            opt.step()
        found.append(fingerprint(opt))
    return found[0], found[1]


def refusals() -> list[str]:
    messages = []
    model = make_model()
    opt = make_optimizer(model)
    for wrapped in (
        None,
        DDP(model),
        DDP(model, gradient_as_bucket_view=True, find_unused_parameters=True),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            StepInBackward(opt, wrapped)
        messages.append(str(caught.value))
    with pytest.raises(TypeError) as refused:
        StepInBackward(make_optimizer(shard(make_model(), (2,))))
    StepInBackward(opt, local=True).remove()
    return [*messages, str(refused.value)]
