"""Which backend runs, and what happens where one is missing."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from support import models, parameter, same_bits, train

import fused_warmup
from fused_warmup import SGD, backends, linear_warmup
from fused_warmup import _backend as backend
from fused_warmup._backend import Backend, native
from fused_warmup._backend.reference import ReferencePlan
from fused_warmup._step.routing import check_parameter


@pytest.fixture
def no_extension(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation whose native extension does not load."""
    monkeypatch.delattr(fused_warmup, "_C", raising=False)
    monkeypatch.setitem(sys.modules, "fused_warmup._C", None)
    native.load_native.cache_clear()
    backend._probe.cache_clear()
    backend._warn_of_reference.cache_clear()
    yield
    monkeypatch.undo()
    native.load_native.cache_clear()
    backend._probe.cache_clear()
    backend._warn_of_reference.cache_clear()


def kinds(opt: SGD) -> list[str]:
    assert opt._plan is not None
    return [type(part).__name__ for part in opt._plan.parts]


def test_backends_tell_what_is_there_and_why() -> None:
    found = backends()
    assert list(found) == ["cuda", "triton", "cpu", "reference"]
    assert found["reference"].available
    assert found["cpu"].available
    for name, each in found.items():
        assert (each.name, bool(each.reason)) == (name, True)
        assert "\n" not in each.reason


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, "CpuPlan"), ("cpu", "CpuPlan"), ("reference", "ReferencePlan")]
)
def test_what_was_asked_for_runs(asked: str | None, expected: str) -> None:
    opt = SGD(models((3,)), backend=asked)
    train(opt, 1)
    assert kinds(opt) == [expected]


def test_each_parameter_goes_where_it_can_be_updated() -> None:
    """One step over three kinds of parameters: the count moves once, all rates are the same."""
    plain, holes = parameter(torch.ones(4)), parameter(torch.ones(4, 2)[:, 0])
    complex_ = parameter(torch.ones(2, dtype=torch.complex64))
    opt = SGD([plain, holes, complex_], lr=1.0, schedule=linear_warmup(4))
    for t in range(6):
        for p in (plain, holes, complex_):
            p.grad = torch.ones_like(p)
        opt.step()
        assert sorted(kinds(opt)) == ["CpuPlan", "ReferencePlan"]
        assert opt.steps_applied == t + 1
        assert opt.get_last_lr() == [min(t / 4, 1.0)]
    expected = 1 - sum(min(t / 4, 1.0) for t in range(6))
    for p in (plain, holes, complex_):
        assert p.tolist() == [expected] * len(p)


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_a_launch_that_another_of_its_step_follows_leaves_the_count(name: str) -> None:
    p, t, lr = torch.zeros(1), torch.tensor(3), torch.zeros(1, dtype=torch.float64)
    plan = backend.make_plan(
        name,
        params=[p],
        momentum_buffers=[None],
        first_steps=[None],
        group_of=[0],
        schedules=[linear_warmup(4)],
        schedule_of=[0],
        momentum_schedule_of=[-1],
        t=t,
        lr=lr,
    )
    (group,) = SGD(models((1,)), lr=1.0).param_groups
    for advance in (False, True):
        assert plan.prepare([group], [torch.ones(1)], None, None, False)
        plan.launch(advance)
        assert int(t) == 3 + advance
    assert (p.tolist(), lr.tolist()) == ([-1.5], [0.75])


def test_a_gradient_may_be_sparse_now_and_dense_then() -> None:
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    dense = torch.nn.Embedding(5, 3)
    dense.load_state_dict(embedding.state_dict())
    ours = SGD(embedding.parameters(), lr=0.5)
    torchs = torch.optim.SGD(dense.parameters(), lr=0.5)
    for step in range(4):
        embedding.sparse = step % 2 == 0
        for model, opt in ((embedding, ours), (dense, torchs)):
            opt.zero_grad()
            model(torch.tensor([1, 3])).pow(2).sum().backward()
            opt.step()
        assert embedding.weight.grad.is_sparse == (step % 2 == 0)
        assert kinds(ours) == ["ReferencePlan" if step % 2 == 0 else "CpuPlan"]
        assert same_bits(embedding.weight, dense.weight)
    assert ours.steps_applied == 4


def test_a_missing_backend_raises_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError("libcuda.so.1: cannot open shared object file")
    missing = Backend("cuda", False, "no driver was found", error)
    real = backend._probe
    monkeypatch.setattr(backend, "_probe", lambda name: missing if name == "cuda" else real(name))
    with pytest.raises(
        RuntimeError, match="'cuda' cannot run here, no driver was found: pass"
    ) as e:
        SGD(models((3,)), backend="cuda")
    assert e.value.__cause__ is error
    assert not backends()["cuda"].available


@pytest.mark.parametrize(
    ("driver", "cuda", "reason"),
    [
        ("no CUDA driver", None, "no CUDA driver"),
        ("", None, f"torch {torch.__version__} is built without CUDA"),
        ("", "13.0", "native CUDA kernel"),
    ],
)
def test_the_cuda_kernel_needs_a_driver_and_a_torch_with_cuda(
    driver: str, cuda: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with NVIDIA's driver torch may be one for CPUs, or for AMD."""
    stand_in = SimpleNamespace(cuda_unavailable_reason=lambda: driver)
    monkeypatch.setattr(backend, "load_native", lambda: (stand_in, None))
    monkeypatch.setattr(torch.version, "cuda", cuda)
    found = backend._probe.__wrapped__("cuda")
    assert (found.available, found.reason) == (cuda is not None, reason)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with an H100, a T4 that the build has no kernel for, and a P100."""
    capabilities = [(9, 0), (7, 5), (6, 0)]
    obstacles = ["", *(f"it has compute capability {a}.{b}" for a, b in capabilities[1:])]
    stand_in = SimpleNamespace(cuda_device_obstacle=obstacles.__getitem__)
    monkeypatch.setattr(backend, "load_native", lambda: (stand_in, None))
    monkeypatch.setattr(backend, "_probe", lambda name: Backend(name, True, "a stand-in"))
    monkeypatch.setattr(backend, "triton_device_types", lambda: ("cuda", "xpu"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_capability",
        lambda device: capabilities[1 if device.index is None else device.index],
    )
    backend.device_obstacle.cache_clear()
    yield
    backend.device_obstacle.cache_clear()


@pytest.mark.usefixtures("gpus")
def test_each_gpu_gets_what_runs_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend.default_backend(torch.device("cuda", 0)) == "cuda"
    assert backend.default_backend(torch.device("cuda", 1)) == "triton"
    with pytest.warns(UserWarning, match="on cuda:2 are .* 6.0; triton: .* 6.0, Triton needs 7.0"):
        assert backend.default_backend(torch.device("cuda", 2)) == "reference"
    assert backend.default_backend(torch.device("cuda")) == "triton"  # the current one
    assert backend.default_backend(torch.device("xpu", 0)) == "triton"
    assert backend.default_backend(torch.device("cpu")) == "cpu"
    monkeypatch.setattr(torch.version, "cuda", None)  # AMD's capabilities mean something else
    backend.device_obstacle.cache_clear()
    assert backend.default_backend(torch.device("cuda", 2)) == "triton"


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("asked", "index", "found"), [("cuda", 1, "capability 7.5"), ("triton", 2, "6.0, Triton needs")]
)
def test_a_gpu_without_a_kernel_is_named(asked: str, index: int, found: str) -> None:
    class OnGpu(torch.Tensor):
        device = torch.device("cuda", index)
        __torch_dispatch__ = torch.Tensor.__torch_dispatch__

    param = torch.ones(3).as_subclass(OnGpu)
    with pytest.raises(ValueError, match=f"on cuda:{index}, which .*{found}.*: pass backend=None"):
        check_parameter(param, {"params": [param]}, asked)


@pytest.mark.usefixtures("no_extension")
def test_without_the_extension_the_reference_serves() -> None:
    assert not backends()["cpu"].available
    assert "did not load" in backends()["cpu"].reason
    with pytest.raises(RuntimeError, match="pass backend=None") as caught:
        SGD(models((3,)), backend="cpu")
    assert isinstance(caught.value.__cause__, ImportError)

    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}
    opt = SGD(models((3,), (4, 2)), schedule=linear_warmup(3), **options)
    with pytest.warns(UserWarning, match="on cpu are updated by plain PyTorch.*did not load"):
        history = train(opt, 2)
    assert kinds(opt) == ["ReferencePlan"]
    opt.param_groups[0]["schedule"] = None
    opt.state[opt.param_groups[0]["params"][0]]["momentum_buffer"] = torch.ones(3)
    history += train(opt, 2, first=2)

    twin = SGD(models((3,), (4, 2)), schedule=linear_warmup(3), backend="reference", **options)
    again = train(twin, 2)
    twin.param_groups[0]["schedule"] = None
    twin.state[twin.param_groups[0]["params"][0]]["momentum_buffer"] = torch.ones(3)
    again += train(twin, 2, first=2)
    for a, b in zip(history, again, strict=True):
        assert all(map(same_bits, a, b))


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose GPU no kernel can use."""
    monkeypatch.setattr(backend, "_probe", lambda name: Backend(name, False, f"no {name} here"))
    backend._warn_of_reference.cache_clear()
    yield
    backend._warn_of_reference.cache_clear()


@pytest.mark.usefixtures("no_kernel")
@pytest.mark.parametrize(
    ("device_type", "reasons"),
    [
        ("cuda", r"cuda: no cuda here; triton: no triton here"),
        ("xpu", r"triton: no triton here"),
        ("mps", r"none is for this device"),
    ],
)
def test_the_reference_on_a_gpu_is_told_once(device_type: str, reasons: str) -> None:
    told = rf"on {device_type} are updated by plain PyTorch.*{reasons}.*backend='reference'"
    with pytest.warns(UserWarning, match=told):
        assert backend.default_backend(torch.device(device_type)) == "reference"
    assert backend.default_backend(torch.device(device_type)) == "reference"


def test_nothing_is_told_where_nothing_is_computed() -> None:
    assert backend.default_backend(torch.device("meta")) == "reference"


def test_the_extension_is_back() -> None:
    """What the fixture above undoes."""
    assert backends()["cpu"].available
    opt = SGD(models((3,)))
    train(opt, 1)
    assert kinds(opt) == ["CpuPlan"]


def test_every_backend_has_the_references_interface() -> None:
    from fused_warmup import _C

    for kind in (_C.CpuPlan, _C.TritonPlan, ReferencePlan):
        for name in ("prepare", "launch"):
            assert callable(getattr(kind, name))
