"""FakeTensorMode, in which memory is estimated: a step reads no value on the host."""

from typing import Any

import pytest
import torch
from support import models, set_grads
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from fused_warmup import SGD, linear_warmup
from fused_warmup.schedules import cosine, multi_step

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "dampening": {"momentum": 0.9, "dampening": 0.1},
    "schedule": {"momentum": 0.9, "schedule": linear_warmup(3).then(cosine(4))},
    "momentum schedule": {"momentum": 0.9, "momentum_schedule": multi_step([2], 0.5)},
    "tensor lr": {"lr": torch.tensor},
    "tensor lr and schedule": {"lr": torch.tensor, "schedule": linear_warmup(3)},
}


def network(options: dict[str, Any]) -> tuple[torch.nn.Module, SGD]:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    options = {"lr": 0.1, **options}
    if options["lr"] is torch.tensor:
        options["lr"] = torch.tensor(0.1)
    return net, SGD(net.parameters(), **options)


def steps(net: torch.nn.Module, opt: Any, n: int = 3, inputs: torch.Tensor | None = None) -> None:
    inputs = torch.ones(5, 3) if inputs is None else inputs
    for _ in range(n):
        opt.zero_grad()
        net(inputs).sum().backward()
        opt.step()


@pytest.mark.parametrize("name", CASES)
def test_steps(name: str) -> None:
    with FakeTensorMode():
        net, opt = network(CASES[name])
        steps(net, opt)
        opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))]})
        steps(net, opt)
        for p in net.parameters():
            assert ("momentum_buffer" in opt.state[p]) == ("momentum" in CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_saving_and_loading(name: str) -> None:
    """torch.optim.SGD cannot copy a tensor lr there."""
    with FakeTensorMode():
        net, opt = network(CASES[name])
        steps(net, opt)
        other_net, other = network(CASES[name])
        other.load_state_dict(opt.state_dict())
        opt.load_state_dict(opt.state_dict())
        steps(other_net, other)
        steps(net, opt)


def test_of_a_gpu_that_is_not_there() -> None:
    """A training is planned on a laptop."""
    with FakeTensorMode():
        try:
            net = torch.nn.Linear(3, 2, device="cuda")
        except RuntimeError as error:
            pytest.skip(f"a torch without CUDA has no such tensors: {error}")
        opt = SGD(net.parameters(), lr=0.1, momentum=0.9, dampening=0.1, schedule=linear_warmup(3))
        for _ in range(2):
            for p in net.parameters():
                p.grad = torch.ones_like(p)
            opt.step()
        opt.load_state_dict(opt.state_dict())
        assert {opt.state[p]["step"].device.type for p in net.parameters()} == {"cuda"}


def test_amp_in_float16() -> None:
    with FakeTensorMode():
        net = torch.nn.Linear(3, 2, dtype=torch.float16)
        opt = SGD(net.parameters(), lr=0.1, momentum=0.9, dampening=0.5)
        for _ in range(2):
            for p in net.parameters():
                p.grad = torch.ones_like(p)
            opt.grad_scale, opt.found_inf = torch.tensor(8.0), torch.tensor(0.0)
            opt.step()
        assert {opt.state[p]["momentum_buffer"].dtype for p in net.parameters()} == {torch.float16}


@pytest.mark.parametrize("name", ["momentum", "dampening", "schedule"])
def test_memory_is_what_torchs_would_take(name: str) -> None:
    """Told by torch's own estimator: a count, a rate and marks, 8 bytes each, come on top."""
    from torch.distributed._tools.mem_tracker import MemTracker

    peaks = []
    for cls in (SGD, torch.optim.SGD):
        with FakeTensorMode():
            net = torch.nn.Linear(100, 100)
            own = {k: v for k, v in CASES[name].items() if cls is SGD or "schedule" not in k}
            opt = cls(net.parameters(), lr=0.1, foreach=False, **own)
            tracker = MemTracker()
            tracker.track_external(net, opt)
            with tracker:
                for _ in range(2):
                    steps(net, opt, 1, torch.ones(5, 100))
                    tracker.reset_mod_stats()
            (peak,) = tracker.get_tracker_snapshot("peak").values()
            peaks.append(peak["Total"])
    assert 0 <= peaks[0] - peaks[1] <= 64


def test_reading_a_value_is_still_an_error() -> None:
    with FakeTensorMode():
        net, opt = network({})
        steps(net, opt)
        with pytest.raises(DataDependentOutputException):
            opt.get_last_lr()


class Reads(TorchDispatchMode):
    """Counts the values that are read on the host."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name in CASES if "tensor" not in name])
def test_the_first_step_of_a_new_optimizer_reads_nothing(name: str) -> None:
    """On a GPU, reading the count would wait for everything before."""
    params = models((5, 3), (7,))
    with Reads() as reads:
        opt = SGD(params, backend="cpu", **{"lr": 0.1, **CASES[name]})
        set_grads(params, 0)
        opt.step()
        assert reads.n == 0
        opt.step()
        opt.add_param_group({"params": models((2,))})
        assert reads.n == 0
    assert opt.steps_applied == 2


def test_nor_does_the_first_step_after_a_count_was_set_or_loaded() -> None:
    first, second = SGD(models((3,))), SGD(models((3,)))
    second.steps_applied = 7
    first.load_state_dict(second.state_dict())
    for opt in (first, second):
        opt.add_param_group({"params": models((2,))})
        set_grads([p for group in opt.param_groups for p in group["params"]], 0)
        with Reads() as reads:
            opt.step()
        assert (reads.n, opt.steps_applied) == (0, 8)


def test_a_count_that_was_written_is_read() -> None:
    """By whoever has the tensor: what is known of it holds no more."""
    opt = SGD(models((3,)), lr=1.0, schedule=linear_warmup(8))
    p = opt.param_groups[0]["params"][0]
    opt.state[p]["step"].fill_(4)
    assert opt.steps_applied == 4
    assert opt.get_last_lr() == [0.375]
    opt.state[p]["step"].data.fill_(5)  # which torch does not count as a change
    set_grads([p], 0)
    opt.step()
    assert (opt.steps_applied, opt.get_last_lr()) == (6, [0.625])
