"""Cases: what modules do to their parameters while an optimizer holds them.

With `torch.__future__.set_swap_module_params_on_conversion` the tensors are exchanged underneath
the parameters' objects and the old ones die; without, their ``data`` is. Either way the training
goes on as torch.optim.SGD's does, and autograd notices that a saved tensor is stale.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, prune, vector_to_parameters

from fused_warmup import SGD

from .subjects import brief, values

Change = Callable[[nn.Module], object]


def model() -> nn.Module:
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 300), nn.Linear(300, 2))
    with torch.no_grad():
        for i, p in enumerate(made.parameters()):
            p.copy_(values(tuple(p.shape), i))
    return made


def set_grads(module: nn.Module, step: int) -> None:
    for i, p in enumerate(module.parameters()):
        p.grad = values(tuple(p.shape), 100 * step + i).to(p.dtype, copy=True)
        if p.grad.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last):
            p.grad = p.grad.contiguous(memory_format=torch.channels_last)


def fill(module: nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(0.25)


def halved(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value * 0.5 for name, value in module.state_dict().items()}


def swap(module: nn.Module) -> None:
    for p in module.parameters():
        p.grad = None
        other = nn.Parameter(p.detach() * 0.5)
        torch.utils.swap_tensors(p, other)
        del other


def frozen(module: nn.Module) -> None:
    module.requires_grad_(False)
    module.requires_grad_(True)


def by_vector(module: nn.Module) -> None:
    """Afterwards all parameters are views of one tensor."""
    vector_to_parameters(parameters_to_vector(module.parameters()) * 0.5, module.parameters())


def pruned(module: nn.Module) -> None:
    prune.l1_unstructured(module[2], "weight", amount=0.5)
    prune.remove(module[2], "weight")


CHANGES: dict[str, Change] = {
    "load_state_dict": lambda m: m.load_state_dict(halved(m)),
    "load_state_dict_assign": lambda m: m.load_state_dict(halved(m), assign=True),
    "double_and_back": lambda m: m.double().float(),
    "bfloat16_and_back": lambda m: m.bfloat16().float(),
    "to_empty": lambda m: (m.to_empty(device="cpu"), fill(m)),
    "channels_last": lambda m: m.to(memory_format=torch.channels_last),
    "channels_last_and_back": lambda m: (
        m.to(memory_format=torch.channels_last),
        m.to(memory_format=torch.contiguous_format),
    ),
    "share_memory": lambda m: m.share_memory(),
    "swap_tensors": swap,
    "frozen_for_a_while": frozen,
    "vector": by_vector,
    "pruned": pruned,
    "zero_grad": lambda m: m.zero_grad(set_to_none=False),
    "copied": lambda m: copy.deepcopy(m),
    "reset": lambda m: (torch.manual_seed(0), [x.reset_parameters() for x in (m[0], m[2])]),
}


@contextmanager
def swapping(on: bool) -> Iterator[None]:
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(on)
    try:
        yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


def convert(change: Change, swaps: bool, momentum: float, every: bool) -> None:
    """Change a module between steps, once or after every step."""
    runs = []
    for make in (SGD, partial(torch.optim.SGD, foreach=False)):
        module = model()
        opt = make(module.parameters(), lr=0.1, momentum=momentum, weight_decay=0.01)
        held = list(module.parameters())  # load_state_dict(assign=True) gives the module others
        for step in range(5):
            set_grads(module, step)
            opt.step()
            if step == 1 or every:
                with swapping(swaps):
                    change(module)
        runs.append((opt, held))
    (ours, mine), (theirs, others) = runs
    for i, (p, q) in enumerate(zip(mine, others, strict=True)):
        assert torch.equal(p, q), f"parameter {i} is {brief(p.detach())}, not {brief(q.detach())}"
        if momentum:
            b, c = (opt.state[x]["momentum_buffer"] for opt, x in ((ours, p), (theirs, q)))
            assert torch.equal(b, c), f"momentum {i} is {brief(b)}, not {brief(c)}"
    stale_tensors_are_noticed(ours, mine)


def stale_tensors_are_noticed(opt: SGD, params: list[torch.Tensor]) -> None:
    for p in params:
        p.requires_grad_(True)
        p.grad = torch.ones_like(p)
    losses = [(p**2).sum() for p in params]
    opt.step()
    for loss in losses:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


CASES: dict[str, Callable[[], None]] = {
    f"{name}-{'swap' if swaps else 'data'}-{momentum}-{'every' if every else 'once'}": partial(
        convert, change, swaps, momentum, every
    )
    for name, change in CHANGES.items()
    for swaps in (True, False)
    for momentum in (0.9, 0.0)
    for every in (True, False)
}


def warm_up() -> None:
    """Let torch import what it imports late."""
    convert(CHANGES["zero_grad"], False, 0.9, False)
