"""The CUDA kernel where it is easily wrong: borders of packs, tensor rates, the last count."""

import pytest
import torch
from support import DTYPE_PAIRS, parameter, randn, same_bits
from test_cuda_kernel import assert_equal_steps, parameters
from torch import Tensor

from fused_warmup import SGD, Schedule
from fused_warmup.schedules import Kind, Segment, cosine, linear_warmup

LAST = 2**63 - 1
MOMENTUM = {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
# Around the packs of each dtype (4 and 8 elements), what a warp takes at a time, and two of those.
SIZES = (1, 7, 8, 9, 15, 17, 31, 33, 128, 129, 255, 257, 383, 511, 512, 513, 769, 2047, 4099)


def scaled(opt: SGD, scale: float, found_inf: float = 0.0) -> SGD:
    """Give it what GradScaler gives."""
    opt.grad_scale, opt.found_inf = torch.tensor(scale), torch.tensor(found_inf)
    return opt


@pytest.mark.parametrize("scale", [None, 3.0], ids=["plain", "scaled"])
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_sizes_around_the_packs(emulate, dtypes, scale) -> None:
    emulate(resident_blocks=2)

    def make(name: str) -> tuple[SGD, list[Tensor]]:
        params = parameters(*dtypes, sizes=SIZES)
        opt = SGD(params, lr=0.1, backend=name, **MOMENTUM)
        return (scaled(opt, scale) if scale else opt), params

    assert_equal_steps(make)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("which", ["param", "grad"])
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS[:3], ids=str)
def test_one_tensor_alone_off_its_boundary(emulate, dtypes, which, momentum) -> None:
    emulate(resident_blocks=2)

    def make(name: str) -> tuple[SGD, list[Tensor]]:
        params = []
        for size in (5, 300, 5003):
            draws = {key: randn(size + 1, seed=size) for key in ("param", "grad")}
            draws = {key: draw.to(dtypes[key == "grad"]) for key, draw in draws.items()}
            own = {key: draw[1:] if key == which else draw[:-1] for key, draw in draws.items()}
            params.append(parameter(own["param"], dtypes[1]))
            params[-1].grad = own["grad"]
        return SGD(params, lr=0.1, momentum=momentum, backend=name), params

    assert_equal_steps(make)


@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_what_is_not_finite_and_what_is_subnormal(emulate, dtypes) -> None:
    emulate()
    tiny = [torch.finfo(dtype).smallest_normal / 4 for dtype in dtypes]
    huge = [torch.finfo(dtype).max for dtype in dtypes]
    specials = [
        [0.0, -0.0, 1.0, float("inf"), -float("inf"), tiny[k], -tiny[k], huge[k], -huge[k]]
        for k in range(2)
    ]

    def make(name: str) -> tuple[SGD, list[Tensor]]:
        p = torch.tensor(specials[0], dtype=torch.float64).to(dtypes[0]).repeat_interleave(9)
        g = torch.tensor(specials[1], dtype=torch.float64).to(dtypes[1]).repeat(9)
        p = parameter(p, dtypes[1])
        p.grad = g
        return scaled(SGD([p], lr=0.5, backend=name, **MOMENTUM), 0.5), [p]

    runs = [make("cpu"), make("reference")]
    for opt, _ in runs:
        opt.step()
    (ours,), (theirs,) = runs[0][1], runs[1][1]
    for a, b in ((ours, theirs), (ours.grad, theirs.grad)):
        assert torch.equal(a.isnan(), b.isnan())  # a NaN's payload is the processor's own
        finite = ~a.isnan()
        assert same_bits(a[finite], b[finite])


@pytest.mark.parametrize(
    "lr_dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_a_tensor_rate_of_each_dtype(emulate, lr_dtype) -> None:
    emulate()

    def make(name: str) -> tuple[SGD, list[Tensor]]:
        params = parameters(torch.float32, torch.float32, sizes=(5, 300))
        groups = [
            {"params": params[:1], "lr": torch.tensor(0.3, dtype=lr_dtype)},
            {"params": params[1:], "lr": torch.tensor([0.7], dtype=lr_dtype).squeeze()},
        ]
        return SGD(groups, lr=0.1, schedule=linear_warmup(5, start=0.3), backend=name), params

    assert_equal_steps(make, steps=4)


def test_a_count_at_its_end_stays(emulate) -> None:
    emulate()
    stairs = Segment(Kind.TABLE, period=5, values=(0.1, 0.2, 0.3, 0.4, 0.5))
    (p,) = params = parameters(torch.float32, torch.float32, sizes=(300,))
    opt = SGD(params, lr=1.0, schedule=Schedule((stairs,)), backend="cpu")
    opt.state[p]["step"].fill_(LAST - 2)
    for t in (LAST - 2, LAST - 1, LAST, LAST):
        assert opt.steps_applied == t
        opt.step()
        assert opt.get_last_lr() == [stairs.values[t % 5]]
    assert opt.steps_applied == LAST


@pytest.mark.parametrize("n_groups", [31, 33, 257, 300])
def test_more_groups_than_threads(emulate, n_groups) -> None:
    emulate(resident_blocks=3)

    def make(name: str) -> tuple[SGD, list[Tensor]]:
        params = parameters(torch.float32, torch.float32, sizes=(9, 70) * ((n_groups + 1) // 2))
        groups = [
            {"params": [p], "lr": 0.001 * (i + 1), "momentum": 0.9 if i % 3 else 0.0}
            for i, p in enumerate(params[:n_groups])
        ]
        momentum = linear_warmup(4, start=0.5)
        opt = SGD(groups, 0.1, schedule=cosine(9), momentum_schedule=momentum, backend=name)
        return opt, params[:n_groups]

    assert_equal_steps(make)


@pytest.mark.parametrize("write_grads", [True, False])
def test_a_skipped_step_among_others_under_amp(emulate, write_grads) -> None:
    emulate()
    runs = []
    for name in ("cpu", "reference"):
        params = parameters(torch.float16, torch.float16, sizes=(5, 300, 4099))
        opt = SGD(params, lr=0.1, backend=name, write_grads=write_grads, **MOMENTUM)
        runs.append((opt, params))
    for found_inf in (1.0, 0.0, float("inf"), 0.0):
        for opt, _ in runs:
            scaled(opt, 8.0, found_inf).step()
        for p, q in zip(runs[0][1], runs[1][1], strict=True):
            assert same_bits(p, q)
            assert same_bits(p.grad, q.grad)
    assert [opt.steps_applied for opt, _ in runs] == [2, 2]


# -- the PTX alone -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_blocks_that_take_turns_at_random(ptx, emulate_with, monkeypatch, seed) -> None:
    """No order of accesses may change a bit, or let a block read the count that another moved."""
    monkeypatch.setattr(ptx, "interleave", seed)
    plans = emulate_with(ptx.launch, resident_blocks=3)

    def make(name: str) -> tuple[SGD, list[Tensor]]:
        params = parameters(torch.float32, torch.float32, sizes=(5003, 9, 7000))
        options = {"momentum": 0.9, "dampening": 0.5, "schedule": linear_warmup(5, start=0.3)}
        return SGD(params, lr=0.1, backend=name, **options), params

    assert_equal_steps(make)
    assert plans[0].ticket == 0


@pytest.mark.parametrize("harm", ["too short", "read only", "not there"])
def test_the_machine_notices_a_wrong_access(ptx, emulate_with, harm) -> None:
    """So the tests above fail where a kernel leaves its tensors."""
    (p,) = params = parameters(torch.float32, torch.float32, sizes=(300,))

    def launch(*what) -> None:
        *others, memory = what
        kept = [each for each in memory if each[0] != p.data_ptr()]
        begin, end = p.data_ptr(), p.data_ptr() + p.nbytes
        kept += {
            "too short": [(begin, end - 4, True)],
            "read only": [(begin, end, False)],
            "not there": [],
        }[harm]
        ptx.launch(*others, kept)

    emulate_with(launch)
    opt = SGD(params, lr=0.1, backend="cpu")
    with pytest.raises(RuntimeError, match="outside of the memory that the launch may so use"):
        opt.step()
