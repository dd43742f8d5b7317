"""What a step finds where it looks for what it knows: tensors that became others meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import models, same_bits, set_grads, train
from torch import Tensor

from fused_warmup import SGD

SHAPES = ((5,), (3, 4, 1), (7,))


def as_slice(t: Tensor) -> Tensor:
    return torch.cat([t.flatten()] * 2)[1 : 1 + t.numel()].view(t.shape).copy_(t)


def grown(t: Tensor) -> Tensor:
    t.untyped_storage().resize_(4 * t.untyped_storage().nbytes())
    return t


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "moved": torch.clone,
    "slice": as_slice,
    "memory grown": grown,
    "transposed memory": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "stride of a dimension of 1": lambda t: t.as_strided(t.shape, (*t.stride()[:-1], 5)),
    "lazy clone": torch._lazy_clone,
}


def pair(options: dict[str, Any], *shapes: tuple[int, ...]) -> list[tuple[Any, list[Tensor]]]:
    ours, theirs = models(*shapes), models(*shapes)
    return [
        (SGD(ours, **options), ours),
        (torch.optim.SGD(theirs, **options, foreach=False), theirs),
    ]


@pytest.mark.parametrize("which", ["grad", "parameter", "momentum_buffer"])
@pytest.mark.parametrize("shape", [SHAPES[1], (1, 3, 2, 1, 2, 1)], ids=str)
@pytest.mark.parametrize("change", CHANGES)
def test_a_tensor_that_changed_behind_its_object(
    change: str, shape: tuple[int, ...], which: str
) -> None:
    both = pair({"lr": 0.1, "momentum": 0.9}, SHAPES[0], shape, SHAPES[2])
    for opt, params in both:
        train(opt, 2)
        p = params[1]
        tensor = {"grad": p.grad, "parameter": p}.get(which, opt.state[p].get(which))
        tensor.data = CHANGES[change](tensor.data)
        opt.step()
        train(opt, 2, first=2)
    assert all(map(same_bits, both[0][1], both[1][1]))


def test_a_lazy_clone_keeps_its_values() -> None:
    params = models(*SHAPES)
    opt = SGD(params, lr=0.1, momentum=0.9)
    train(opt, 2)
    watched = [params[1], opt.state[params[1]]["momentum_buffer"]]
    before = [t.detach().clone() for t in watched]
    clones = [torch._lazy_clone(t.detach()) for t in watched]
    opt.step()
    assert all(map(same_bits, clones, before))
    assert not any(map(same_bits, watched, before))


@pytest.mark.parametrize("n", [3, 70, 600], ids=["few", "several blocks", "many"])
def test_gradients_that_come_and_go(n: int) -> None:
    both = pair({"lr": 0.1, "momentum": 0.9}, *[(1 + i % 3,) for i in range(n)])
    versions = []
    for opt, params in both:
        for step in range(6):
            set_grads(params[step % 2 :: 1 + step % 3], step)
            if step == 3:
                params[n // 2].grad = None
            opt.step()
            opt.step()
            opt.zero_grad()
        versions.append([p._version for p in params])
    assert all(map(same_bits, both[0][1], both[1][1]))
    assert versions[0] == versions[1]


def test_a_refused_look_forgets_nothing() -> None:
    """Of three gradients that moved, the look sees one before what it cannot use."""
    both = pair({"lr": 0.1, "momentum": 0.9}, *SHAPES)
    for opt, params in both:
        train(opt, 2)
        for p in params:
            p.grad.data = p.grad.data * 2
        good = params[1].data
        params[1].data = good[:2]
        if opt is both[0][0]:
            with pytest.raises(ValueError, match="shape"):
                opt.step()
        params[1].data = good
        for p in params:
            p.grad.data = p.grad.data / 4
        opt.step()
    assert all(map(same_bits, both[0][1], both[1][1]))
