"""Parameters without a shape yet, of torch's lazy modules: an optimizer may be built over them."""

import copy
from typing import Any

import pytest
import torch
from support import randn, same_bits
from torch import nn

from fused_warmup import SGD, linear_warmup

BACKENDS = [None, "cpu", "reference"]
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LazyLinear(2))


def train(net: nn.Module, opt: Any, steps: int, seed: int = 0) -> None:
    for i in range(steps):
        opt.zero_grad()
        net(randn(5, 4, seed=seed + i)).square().sum().backward()
        opt.step()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(map(same_bits, a.parameters(), b.parameters()))


OPTIONS = [{}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5}]


@every_backend
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_built_before_the_first_forward(options, backend) -> None:
    nets = [model(), model()]
    ours = SGD(nets[0].parameters(), lr=0.1, backend=backend, **options)
    theirs = torch.optim.SGD(nets[1].parameters(), lr=0.1, foreach=False, **options)
    for net, opt in zip(nets, (ours, theirs), strict=True):
        opt.step()
        torch.manual_seed(1)
        train(net, opt, 3)
    assert same(*nets)
    assert ours.steps_applied == 3


def test_others_step_meanwhile() -> None:
    nets = [model(), model()]
    ours = SGD(nets[0].parameters(), lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(nets[1].parameters(), lr=0.1, momentum=0.9, foreach=False)
    for net, opt in zip(nets, (ours, theirs), strict=True):
        net[0](torch.ones(1, 4)).sum().backward()
        opt.step()
        torch.manual_seed(1)
        train(net, opt, 2)
    assert same(*nets)


def test_the_state_is_saved_before_and_loaded_after() -> None:
    net = model()
    opt = SGD(net.parameters(), lr=0.1, momentum=0.9, schedule=linear_warmup(4))
    saved = copy.deepcopy(opt.state_dict())
    train(net, opt, 1)
    opt.load_state_dict(saved)
    assert opt.steps_applied == 0


@pytest.mark.parametrize("first", ["optimizer", "model"])
def test_a_checkpoint_is_loaded_before_the_first_forward(first) -> None:
    """Torch takes the momentum of a parameter whose shape is not known yet as it comes."""
    net = model()
    opt = SGD(net.parameters(), lr=0.1, momentum=0.9, dampening=0.5, schedule=linear_warmup(8))
    train(net, opt, 3)
    again = model()
    resumed = SGD(again.parameters(), lr=0.1, momentum=0.9, dampening=0.5)
    if first == "model":
        again.load_state_dict(net.state_dict())
        resumed.load_state_dict(opt.state_dict())
    else:
        resumed.load_state_dict(copy.deepcopy(opt.state_dict()))
        again.load_state_dict(net.state_dict())
    assert resumed.steps_applied == 3
    for each, by in ((net, opt), (again, resumed)):
        train(each, by, 2, seed=9)
    assert same(net, again)


def test_a_copy_of_the_optimizer_and_a_group_added_late() -> None:
    net, late = model(), nn.LazyLinear(2)
    opt = copy.deepcopy(SGD(net.parameters(), lr=0.1, momentum=0.9))
    assert opt.steps_applied == 0
    opt = SGD(net[0].parameters(), lr=0.1, momentum=0.9)
    opt.add_param_group({"params": late.parameters()})
    late(net[0](torch.ones(2, 4))).sum().backward()
    opt.step()
    assert all("momentum_buffer" in opt.state[p] for p in late.parameters())
