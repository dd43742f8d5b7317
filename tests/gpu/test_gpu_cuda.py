"""The CUDA kernel on a GPU, bit for bit beside the reference, and how it is launched."""

import copy
import gc
import time
from typing import Any

import pytest
import torch
from support import DTYPE_PAIRS, OPTIONS, PATIENCE
from support.gpu_cases import (
    EXACT,
    FULL,
    NEEDS_GPU,
    TRAINING,
    assert_equal_steps,
    assert_rates,
    assert_same,
    parameters,
    rates,
    syncs_are_errors,
    with_momentum_schedules,
)
from torch import Tensor

from benchmarks.trace import trace_of
from fused_warmup import SGD, backends, clip_grad_norm_, schedules
from fused_warmup._backend import make_plan
from fused_warmup.schedules import cosine, inverse_sqrt, linear_warmup, step

pytestmark = NEEDS_GPU


def cuda_sgd(params: Any, **options: Any) -> SGD:
    return SGD(params, **{"lr": 0.1, "backend": "cuda", **options})


def test_kernel_is_there_and_chosen() -> None:
    assert backends()["cuda"].available, backends()["cuda"].reason
    opt = SGD(parameters(sizes=(5,)), lr=0.1)
    opt.step()
    assert [type(part).__name__ for part in opt._plan.parts] == ["CudaPlan"]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_reference(options: dict[str, Any], dtypes: tuple, offset: int) -> None:
    def make(backend: str) -> tuple[SGD, list[Tensor]]:
        params = parameters(*dtypes, offset=offset)
        return SGD(params, lr=0.1, schedule=EXACT, backend=backend, **options), params

    assert_equal_steps(make, "cuda")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_reference_on_the_cpu(options: dict[str, Any]) -> None:
    def make(backend: str) -> tuple[SGD, list[Tensor]]:
        device = "cpu" if backend == "reference" else "cuda"
        params = parameters(device=device)
        return SGD(params, lr=0.1, schedule=EXACT, backend=backend, **options), params

    assert_equal_steps(make, "cuda")


def test_equals_reference_under_schedules_of_the_momentum() -> None:
    assert_equal_steps(with_momentum_schedules, "cuda", steps=5)


def test_equals_reference_for_more_groups_than_static_shared_memory_holds() -> None:
    def make(backend: str) -> tuple[SGD, list[Tensor]]:
        params = parameters(sizes=(3,) * 3200)
        groups = [{"params": [p], "lr": 0.1 / (1 + i)} for i, p in enumerate(params)]
        return SGD(groups, schedule=EXACT, backend=backend, **FULL), params

    assert_equal_steps(make, "cuda")


def test_more_groups_than_a_multiprocessor_holds_are_refused_by_the_plan() -> None:
    """By hand: torch's own constructor takes time in the square of the groups."""
    (p,) = parameters(sizes=(3,))
    none = [-1] * 20_000
    with pytest.raises(ValueError, match="20000 parameter groups is too much"):
        make_plan(
            "cuda",
            params=[p],
            momentum_buffers=[None],
            first_steps=[None],
            group_of=[0],
            schedules=[],
            schedule_of=none,
            momentum_schedule_of=none,
            t=torch.zeros((), dtype=torch.int64, device="cuda"),
            lr=torch.zeros(len(none), dtype=torch.float64, device="cuda"),
        )


def with_strides(layout: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).cuda()

    if layout == "channels_last":
        p, g = (normal(5, 7, 3, 3).to(memory_format=torch.channels_last) for _ in range(2))
    elif layout == "transposed":
        p, g = (normal(37, 65).t() for _ in range(2))
    elif layout == "gradient transposed":
        p, g = normal(65, 37), normal(37, 65).t()
    elif layout == "gradient expanded":
        p, g = normal(65, 37), normal(1, 37).expand(65, 37)
    else:
        p, g = normal(65, 37), normal(65, 74)[:, ::2]
    p.requires_grad_()
    p.grad = g
    return [p, *parameters(sizes=(64,))]


@pytest.mark.parametrize(
    "layout",
    [
        "channels_last",
        "transposed",
        "gradient transposed",
        "gradient expanded",
        "gradient with holes",
    ],
)
def test_strides(layout: str) -> None:
    runs = []
    for backend in ("cuda", "reference"):
        params = with_strides(layout)
        opt = SGD(params, lr=0.1, backend=backend, **FULL)
        for _ in range(3):
            opt.step()
        runs.append(params)
    assert_same(*runs)


def test_groups_of_one_launch() -> None:
    def make(backend: str) -> tuple[SGD, list[Tensor]]:
        first = parameters(sizes=(70, 5003))
        second = parameters(torch.bfloat16, torch.float32, (300, 9))
        third = parameters(torch.float64, sizes=(33,))
        groups = [
            {"params": first, "lr": 0.3, **FULL},
            {"params": second, "lr": torch.tensor(0.2, device="cuda"), "schedule": step(2, 0.5)},
            {"params": third, "lr": torch.tensor(0.25), "momentum": 0.5, "schedule": EXACT},
        ]
        schedule = linear_warmup(2, start=0.25).then(cosine(4))
        opt = SGD(groups, lr=0.1, schedule=schedule, backend=backend)
        return opt, first + second + third

    assert_equal_steps(make, "cuda", steps=6)


@pytest.mark.parametrize(
    "schedule",
    [
        TRAINING,
        linear_warmup(10).then(inverse_sqrt(50)),
        step(30, 0.5),
        linear_warmup(10) * step(30, 0.5) * schedules.cosine(250),
        schedules.exponential(0.99),
        schedules.polynomial(250, 0.9),
        schedules.cosine_restarts(40, mult=2, cycle_gain=0.7),
        schedules.table([0.3, 0.1, 0.7]),
    ],
    ids=repr,
)
def test_rates_are_those_of_float64(schedule: schedules.Schedule) -> None:
    opt = cuda_sgd(parameters(sizes=(3,)), schedule=schedule)
    history = torch.empty(300, dtype=torch.float64, device="cuda")
    for t in range(300):
        opt.step()
        history[t] = opt.lr_tensor()[0]
    assert_rates(history, rates(schedule, 0.1, 300))


@pytest.mark.parametrize("found_inf", [1.0, 2.0, float("nan")])
def test_skipped_step_changes_nothing(found_inf: float) -> None:
    params = parameters()
    opt = cuda_sgd(params, **FULL)
    opt.step()
    before = copy.deepcopy([*params, *[opt.state[p]["momentum_buffer"] for p in params]])
    opt.found_inf = torch.tensor(found_inf, device="cuda")
    opt.step()
    assert opt.steps_applied == 1
    assert_same([*params, *[opt.state[p]["momentum_buffer"] for p in params]], before)
    opt.found_inf = torch.tensor(0.0, device="cuda")
    opt.step()
    assert opt.steps_applied == 2
    assert not torch.equal(params[-1], before[len(params) - 1])


@pytest.mark.parametrize("dtypes", DTYPE_PAIRS[:3], ids=str)
def test_gradients_are_unscaled_and_written_back(dtypes: tuple) -> None:
    runs = []
    for backend in ("cuda", "reference"):
        params = parameters(*dtypes)
        opt = SGD(params, lr=0.1, backend=backend, **FULL)
        opt.grad_scale = torch.tensor(3.0, device="cuda")
        opt.found_inf = torch.tensor(0.0, device="cuda")
        opt.step()
        runs.append([*params, *[p.grad for p in params]])
    assert_same(*runs)


@pytest.mark.parametrize("unscale_first", [False, True])
def test_grad_scaler_from_an_overflow_in_the_first_step(unscale_first: bool) -> None:
    def train(backend: str) -> tuple[SGD, list[Tensor], float]:
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
        net.cuda()
        opt = SGD(net.parameters(), lr=0.1, schedule=EXACT, backend=backend, **FULL)
        scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40, growth_interval=3)
        inputs = torch.randn(32, 8, device="cuda")
        for _ in range(60):
            opt.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = net(inputs).float().square().mean()
            scaler.scale(loss).backward()
            if unscale_first:
                scaler.unscale_(opt)
            scaler.step(opt)
            scaler.update()
        return opt, [p.detach() for p in net.parameters()], scaler.get_scale()

    ours, mine, scale = train("cuda")
    reference, theirs, expected_scale = train("reference")
    assert 0 < ours.steps_applied < 60
    assert (ours.steps_applied, scale) == (reference.steps_applied, expected_scale)
    assert_same(mine, theirs)
    assert all(bool(p.isfinite().all()) for p in mine)


def test_steady_steps_never_make_the_host_wait() -> None:
    params = parameters()
    groups = [
        {"params": params[:3], "lr": torch.tensor(0.1, device="cuda")},
        {"params": params[3:], "schedule": TRAINING},
    ]
    opt = cuda_sgd(groups, **FULL)
    scaler = torch.amp.GradScaler("cuda")
    scaler.scale(torch.ones((), device="cuda"))
    opt.step()
    with syncs_are_errors():
        for _ in range(5):
            for p in params:  # gradients at new addresses, as after zero_grad()
                p.grad = torch.ones_like(p)
            opt.step()
        for _ in range(5):
            scaler.step(opt)
            scaler.update()
        for _ in range(5):
            clip_grad_norm_(opt, 0.5, scaler=scaler)
            scaler.step(opt)
            scaler.update()


@pytest.mark.parametrize("case", ["ResNet-like", "10,000 tensors", "groups and dtypes"])
def test_steady_step_is_one_kernel_without_copies_or_syncs(case: str) -> None:
    if case == "groups and dtypes":
        groups = [{"params": parameters(*dtypes, sizes=(5, 700))} for dtypes in DTYPE_PAIRS]
        opt = cuda_sgd(groups, schedule=TRAINING, **FULL)
    else:
        sizes = [64] * 10_000 if case == "10,000 tensors" else [64, 4096, 1_000_000] * 50
        opt = cuda_sgd(parameters(sizes=sizes), schedule=TRAINING, momentum=0.9)
    for _ in range(3):
        opt.step()
    trace = trace_of(opt.step, steps=10)
    assert len(trace.kernels) == 10, trace
    assert all("sgd_kernel" in name for name in trace.kernels)
    assert (trace.copies, trace.syncs) == (0, ())


def test_step_runs_on_the_current_stream() -> None:
    p = torch.zeros(1000, device="cuda", requires_grad=True)
    p.grad = torch.zeros_like(p)
    opt = cuda_sgd([p], lr=1.0)
    opt.step()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # tens of milliseconds in which a wrong stream would run
        p.grad.fill_(2.0)
        opt.step()
    torch.cuda.synchronize()
    assert bool((p == -2).all())


def test_uploads_keep_up_with_gradients_that_move() -> None:
    """The device lags far behind, so tables of several steps are under way at a time."""
    sizes = (40, 300, 5003)
    p_ours, p_reference = parameters(sizes=sizes), parameters(sizes=sizes)
    ours, reference = cuda_sgd(p_ours, **FULL), SGD(p_reference, 0.1, backend="reference", **FULL)
    rounds = [[torch.full((n,), 0.1 * (i + 1), device="cuda") for n in sizes] for i in range(12)]
    torch.cuda._sleep(100_000_000)
    for opt, params in ((ours, p_ours), (reference, p_reference)):
        for i, grads in enumerate(rounds):
            for k, (p, grad) in enumerate(zip(params, grads, strict=True)):
                p.grad = None if i % 4 == k else grad
            opt.step()
    assert_same(p_ours, p_reference)


def test_more_elements_than_int32_counts() -> None:
    free, _ = torch.cuda.mem_get_info()
    n = 2**31 + 129 if free > 24 * 2**30 else 2**20 + 129
    p = torch.zeros(n, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    p.grad = torch.ones_like(p)
    opt = cuda_sgd([p], lr=1.0)
    opt.step()
    assert bool((p == -1).all())


def test_more_tensors_than_blocks() -> None:
    params = [torch.zeros(3, device="cuda", requires_grad=True) for _ in range(20_000)]
    for p in params:
        p.grad = torch.ones_like(p)
    cuda_sgd(params, lr=1.0).step()
    assert bool((torch.stack([p.detach() for p in params]) == -1).all())


def test_resuming_in_mid_warmup_continues_bit_for_bit() -> None:
    straight = parameters()
    opt = cuda_sgd(straight, schedule=EXACT, **FULL)
    for _ in range(3):
        opt.step()
    resumed = [p.detach().clone().requires_grad_() for p in straight]
    for p, q in zip(straight, resumed, strict=True):
        q.grad = p.grad
    other = cuda_sgd(resumed, schedule=EXACT, **FULL)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(3):
        opt.step()
        other.step()
    assert opt.steps_applied == other.steps_applied == 6
    assert_same(straight, resumed)


def test_every_device() -> None:
    devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    params = [p for device in devices for p in parameters(sizes=(65, 5003), device=device)]
    expected = parameters(sizes=(65, 5003))
    opt, alone = (
        cuda_sgd(params, schedule=EXACT, **FULL),
        cuda_sgd(expected, schedule=EXACT, **FULL),
    )
    for _ in range(4):
        opt.step()
        alone.step()
    assert opt.steps_applied == 4
    assert_same(params, expected * len(devices))


def test_a_plan_may_go_while_a_graph_is_captured() -> None:
    """CUDA refuses to free memory meanwhile, and spoils the capture, unless it is asked nicely."""
    opt, gone = (cuda_sgd(parameters(sizes=(65, 5003)), schedule=EXACT, **FULL) for _ in range(2))
    opt.step()
    gone.step()
    part = gone._plan.parts.pop()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        opt.step()
        del part
    graph.replay()
    assert opt.steps_applied == 2


def test_a_graph_outlives_its_optimizer() -> None:
    """It holds what the launch reads; the user holds the tensors that it updates."""
    params, others = parameters(sizes=(65, 5003)), parameters(sizes=(65, 5003))
    opt, other = (cuda_sgd(each, schedule=EXACT, **FULL) for each in (params, others))
    opt.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        opt.step()
    held = [*opt.state.values()]
    part = opt._plan.parts[0]
    assert part.n_captured == 1
    del opt, part
    gc.collect()
    junk = [torch.full((2**k,), 255, dtype=torch.uint8, device="cuda") for k in range(8, 22)]
    for _ in range(3):
        graph.replay()
    for _ in range(4):
        other.step()
    assert all(bool((each == 255).all()) for each in junk)
    assert len(held) == len(params)
    assert_same(params, others)


def test_tables_of_graphs_that_are_gone_are_freed() -> None:
    opt = cuda_sgd(parameters(sizes=(65, 5003)), schedule=EXACT, **FULL)
    opt.step()
    for _ in range(3):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            opt.step()
        assert opt._plan.is_captured
        del graph
        gc.collect()
        torch.cuda.synchronize()
        end = time.monotonic() + PATIENCE  # CUDA tells on a thread of its own
        while opt._plan.is_captured and time.monotonic() < end:
            time.sleep(0.001)
        assert not opt._plan.is_captured


def test_running_out_of_memory_is_pytorchs_error() -> None:
    opt = cuda_sgd(parameters(sizes=(65, 5003)), schedule=EXACT, **FULL)
    opt.step()
    before = [p.detach().clone() for p in opt.param_groups[0]["params"]]
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
    try:
        with torch.cuda.stream(side), pytest.raises(torch.OutOfMemoryError):
            opt.step()  # on a stream that has no tables yet
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert opt.steps_applied == 1
    assert_same(opt.param_groups[0]["params"], before)
    with torch.cuda.stream(side):
        opt.step()
    torch.cuda.current_stream().wait_stream(side)
    assert opt.steps_applied == 2


def test_gradients_that_alternate_are_not_copied_for_each_step() -> None:
    (p,) = parameters(sizes=(5003,))
    opt = cuda_sgd([p], schedule=EXACT, **FULL)
    grads = [p.grad, p.grad.clone()]
    for i in range(4):
        p.grad = grads[i % 2]
        opt.step()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for i in range(4):
            p.grad = grads[i % 2]
            opt.step()
        torch.cuda.synchronize()
    assert not [each.key for each in profile.key_averages() if "Memcpy" in each.key]
