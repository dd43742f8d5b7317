"""The Triton backend in Triton's interpreter. `tests/test_triton.py` runs this file.

A process of its own, since TRITON_INTERPRET counts only before Triton is imported.
"""

import copy
import gc
import itertools
import weakref
from fractions import Fraction

import exact
import numpy as np
import pytest
import torch
from support import OPTIONS, same_bits

import fused_warmup
from fused_warmup import SGD
from fused_warmup.backend import triton as backend
from fused_warmup.backend.triton_tables import DeviceTable, words_of
from fused_warmup.schedules import Kind, PastEnd, Schedule, Segment, cosine, linear_warmup

BLOCK, TAIL = backend.BLOCK, backend.TAIL
SIZES = (0, 1, 15, 16, 17, TAIL + 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 21)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def exact_interpreter(monkeypatch):
    exact.install(monkeypatch)


def draw(size, dtype, seed, offset=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size + offset, generator=generator).to(dtype)[offset:]


def parameters(sizes, dtype=torch.float32, grad_dtype=None, offset=0):
    """Parameters with gradients; `offset` elements keep them from a 16-byte boundary."""
    params = []
    for i, size in enumerate(sizes):
        p = draw(size, dtype, i, offset).requires_grad_()
        p.grad_dtype = grad_dtype or dtype
        p.grad = draw(size, p.grad_dtype, 100 + i, offset)
        params.append(p)
    return params


class Pair:
    """Two optimizers of the same making: ours on Triton, and the reference."""

    def __init__(self, make_params, **options):
        self.ours, self.theirs = (
            SGD(make_params(), backend=name, **copy.deepcopy(options))
            for name in ("triton", "reference")
        )

    def both(self):
        return (self.ours, self.theirs)

    def params(self, opt):
        return [p for group in opt.param_groups for p in group["params"]]

    def step(self, steps=1, scale=None, found_inf=None):
        for _ in range(steps):
            for opt in self.both():
                if scale is not None:
                    opt.grad_scale = torch.tensor(scale)
                if found_inf is not None:
                    opt.found_inf = torch.tensor([found_inf])
                opt.step()
                opt.grad_scale = opt.found_inf = None
            self.check()
            for opt in self.both():
                for i, p in enumerate(self.params(opt)):
                    if p.grad is not None:
                        seed = 1000 * opt.steps_applied + i
                        p.grad.copy_(draw(p.numel(), p.grad.dtype, seed).view(p.shape))

    def check(self):
        """Everything a step touches is the same, bit for bit."""
        ours, theirs = self.both()
        assert ours.steps_applied == theirs.steps_applied
        assert ours.get_last_lr() == theirs.get_last_lr()
        for p, q in zip(self.params(ours), self.params(theirs), strict=True):
            assert same_bits(p, q)
            assert p.isfinite().all()
            for key in ("momentum_buffer", "first_step"):
                assert (key in ours.state[p]) == (key in theirs.state[q])
                # The mark of a parameter without elements marks nothing.
                if key in ours.state[p] and p.numel() > 0:
                    assert same_bits(ours.state[p][key], theirs.state[q][key])
            if p.grad is not None:
                assert same_bits(p.grad, q.grad)


def bytes_of(opt):
    tensors = [p for group in opt.param_groups for p in group["params"]]
    tensors += [v for entry in opt.state.values() for v in entry.values()]
    tensors += [p.grad for p in tensors if p.grad is not None]
    tensors.append(opt.lr_tensor())
    return [x.detach().reshape(-1).view(torch.uint8).tolist() for x in tensors]


# -- the tools ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_of_the_tests_rounds_once(dtype):
    rng = np.random.default_rng(0)
    x, y, z = rng.standard_normal((3, 3000)).astype(dtype)
    z[:1000] = -(x * y)[:1000]  # what one rounding leaves of these is the product's error
    z[1000:2000] = (x * y)[1000:2000] * dtype(2.0**20)
    wide = [
        Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        for a, b, c in zip(x, y, z, strict=True)
    ]
    fused = exact.fma(x, y, z)
    assert fused.dtype == dtype
    if dtype == np.float64:
        assert [float(f) for f in wide] == fused.tolist()
    else:
        # The two neighbours are farther from the exact value, or as far and odd.
        for exact_value, f in zip(wide, fused, strict=True):
            error = abs(Fraction(float(f)) - exact_value)
            for other in (
                np.nextafter(f, np.float32(-np.inf)),
                np.nextafter(f, np.float32(np.inf)),
            ):
                assert error <= abs(Fraction(float(other)) - exact_value)
    assert (fused != x * y + z).any()


# -- the update -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [None, 1024.0], ids=["unscaled", "scaled"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_option_equals_the_reference_in_one_launch(dtype, scale):
    def groups():
        sizes = (17, BLOCK + 5)
        return [{"params": parameters(sizes, dtype), **options} for options in OPTIONS]

    Pair(groups, lr=0.1).step(3, scale=scale)


@pytest.mark.parametrize("offset", [0, 1], ids=["aligned", "misaligned"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_size_equals_the_reference(dtype, offset):
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
    Pair(lambda: parameters(SIZES, dtype, offset=offset), **options).step(2)


def test_every_pair_of_dtypes_equals_the_reference_in_one_launch():
    def params():
        pairs = itertools.product(DTYPES, DTYPES)
        return [p for pair in pairs for p in parameters((5, 16, BLOCK + 19), *pair)]

    pair = Pair(params, lr=0.1, momentum=0.9, weight_decay=0.01)
    pair.step(1)
    pair.step(2, scale=3.0)


def test_permuted_parameters_are_walked_as_they_lie():
    def params():
        made = []
        for i, shape in enumerate([(4, 3, 5, 2), (6, 1, 3, 3), (8, 4, 1, 1)]):
            p = draw(torch.Size(shape).numel(), torch.float32, i).view(shape)
            p = p.to(memory_format=torch.channels_last).requires_grad_()
            p.grad = draw(p.numel(), torch.float32, 50 + i).view(shape)  # laid out another way
            made.append(p)
        made[0].grad = made[0].grad.to(memory_format=torch.channels_last)
        return made

    pair = Pair(params, lr=0.1, momentum=0.9)
    pair.step(2)
    assert pair.params(pair.ours)[0].stride() == (30, 1, 6, 3)


# -- the rate -------------------------------------------------------------------------------------


def segments():
    """Return a segment of every kind, with every feature of the clock among them."""
    return {
        "linear": Segment(length=7, a=0.1, b=1.0),
        "poly": Segment(length=40, p=0.9, k=1.5),
        "poly beyond": Segment(past_end=PastEnd.CONTINUE, length=40, p=3.0),
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
        "pow": Segment(Kind.POW, PastEnd.CONTINUE, length=100, p=0.5, shift=1.0, a=2.0, b=0.5),
        "table": Segment(Kind.TABLE, values=tuple(0.3 / (i + 1) for i in range(50)), origin=2),
        "table repeated": Segment(
            Kind.TABLE, values=(1.0, 0.5, 0.7), period=3, log_cycle_gain=-0.01, b=0.25
        ),
    }


STEPS = (0, 1, 2, 6, 7, 8, 29, 30, 31, 39, 40, 41, 99, 100, 999, 1000, 10**6, 2**31 + 1, 2**40)


# log(0) where a curve begins or ends: -inf, and its exp 0, is what the kernel means.
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_rates_of_every_kind_are_the_schedules_to_an_ulp_of_float32():
    schedules = {name: Schedule((segment,)) for name, segment in segments().items()}
    joined = linear_warmup(30).then(cosine(60)).then(Schedule((Segment.constant(0.125),)))
    schedules |= {"joined": joined, "joined again": joined, "none": None}
    groups = [
        {"params": parameters((3,)), "schedule": schedule, "lr": 0.1 * (i + 1)}
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_tensor_lr_is_read_when_the_step_runs(dtype):
    lr = torch.tensor(0.1, dtype=dtype)
    opt = SGD(parameters((5,)), lr=lr, backend="triton", schedule=linear_warmup(4))
    for value in (0.1, 0.7, 0.0):
        lr.fill_(value)
        t = opt.steps_applied
        opt.step()
        assert opt.get_last_lr() == [float(lr) * (t / 4)]


# -- AMP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found_inf", [1.0, 2.0, float("nan"), float("inf")])
def test_a_skipped_step_moves_nothing(found_inf):
    options = {"momentum": 0.9, "dampening": 0.5, "schedule": linear_warmup(4)}
    opt = SGD(parameters(SIZES), lr=0.1, backend="triton", **options)
    for _ in range(2):
        before = bytes_of(opt)
        opt.grad_scale, opt.found_inf = torch.tensor(8.0), torch.tensor([found_inf])
        opt.step()
        assert bytes_of(opt) == before
        opt.found_inf = torch.tensor([0.0])
        opt.step()
        assert bytes_of(opt) != before
    assert opt.steps_applied == 2


def test_gradients_stay_scaled_unless_they_are_to_be_written():
    p, buffer = draw(40, torch.float32, 1), torch.zeros(40)
    grad, t = draw(40, torch.float32, 2), torch.zeros((), dtype=torch.int64)
    lr = torch.zeros(1, dtype=torch.float64)
    group = dict(zip(backend.OPTIONS, (0.0, 0.9, 0.0, False, False), strict=True), lr=0.5)
    kept, expected = grad.clone(), p - 0.5 * (grad / 4)
    plan = backend.TritonPlan([p], [buffer], [None], [0], [], [-1], t, lr)
    assert plan.prepare([group], [grad], torch.tensor(4.0), None, False)
    plan.launch(False)
    assert torch.equal(grad, kept)
    assert torch.equal(p, expected)
    assert (int(t), lr.tolist()) == (0, [0.5])  # another launch of this step will advance t


# -- first steps, empty tensors, changes ----------------------------------------------------------


def test_a_late_parameters_first_step_is_its_own():
    pair = Pair(lambda: parameters((BLOCK + 3, 5)), lr=0.1, momentum=0.9, dampening=0.5)
    late = [pair.params(opt)[1] for opt in pair.both()]
    for p in late:
        p.grad = None
    pair.step(2)
    pair.step(1, found_inf=1.0)
    for p in late:
        p.grad = draw(5, torch.float32, 3)
    pair.step(1, found_inf=1.0)
    pair.step(2)
    assert [int(pair.ours.state[p]["first_step"]) for p in pair.params(pair.ours)] == [0, 2]


def test_a_step_of_empty_tensors_is_a_step():
    opt = SGD(parameters((0, 0)), lr=0.1, momentum=0.9, schedule=linear_warmup(4), backend="triton")
    opt.step()
    opt.step()
    assert (opt.steps_applied, opt.get_last_lr()) == (2, [0.1 * 0.25])


def test_a_device_without_gradients_keeps_the_count():
    t, lr = torch.tensor(5), torch.zeros(1, dtype=torch.float64)
    group = dict(zip(backend.OPTIONS, (0.0, 0.0, 0.0, False, False), strict=True), lr=0.5)
    plan = backend.TritonPlan([torch.ones(3)], [None], [None], [0], [], [-1], t, lr)
    assert plan.prepare([group], [None], None, None, True)
    plan.launch(True)
    assert (plan.active, int(t), lr.tolist()) == ([], 6, [0.5])


def test_without_a_gradient_there_is_no_step():
    opt = SGD([torch.ones(3, requires_grad=True)], lr=0.1, backend="triton")
    opt.step()
    assert opt.steps_applied == 0


def test_tables_follow_what_changes_between_steps():
    pair = Pair(lambda: parameters((5, BLOCK + 1, 30)), lr=0.1, momentum=0.9)
    pair.step()
    for opt in pair.both():  # gradients elsewhere
        for i, p in enumerate(pair.params(opt)):
            p.grad = draw(p.numel(), torch.float32, 30 + i)
    pair.step()
    for opt in pair.both():  # options
        opt.param_groups[0].update(lr=0.3, weight_decay=0.1, nesterov=True, maximize=True)
    pair.step()
    for opt in pair.both():  # one parameter without a gradient
        pair.params(opt)[1].grad = None
    pair.step()
    for opt in pair.both():  # the gradient of another dtype
        p = pair.params(opt)[1]
        p.grad_dtype = torch.bfloat16
        p.grad = draw(p.numel(), torch.bfloat16, 40)
    pair.step()
    for opt in pair.both():  # a parameter's memory
        p = pair.params(opt)[0]
        p.data = p.data.clone()
    pair.step()
    for opt in pair.both():  # the momentum's memory
        buffer = opt.state[pair.params(opt)[2]]["momentum_buffer"]
        buffer.data = buffer.data.clone()
    pair.step()
    for opt in pair.both():  # another group, another schedule
        opt.add_param_group({"params": parameters((9,)), "schedule": linear_warmup(50)})
    pair.step(2)


def test_a_bad_option_raises_before_anything_moves():
    opt = SGD(parameters((5,)), lr=0.1, backend="triton")
    opt.step()
    before = bytes_of(opt)
    for name, value in (("lr", float("nan")), ("weight_decay", -1.0), ("momentum", float("inf"))):
        good, opt.param_groups[0][name] = opt.param_groups[0][name], value
        with pytest.raises(ValueError, match=str(value)):
            opt.step()
        opt.param_groups[0][name] = good
    assert bytes_of(opt) == before


def test_a_sparse_gradient_raises():
    p = torch.ones(3, 2, requires_grad=True)
    opt = SGD([p], lr=0.1, backend="triton")
    p.grad = torch.zeros(3, 2).to_sparse()
    with pytest.raises(TypeError, match="sparse"):
        opt.step()
    assert opt.steps_applied == 0


# -- what a step costs ----------------------------------------------------------------------------


class Launches:
    """Stands in for the kernel: runs it, and can run each launch again, as a graph does."""

    def __init__(self, monkeypatch):
        self.kernel = backend.triton_kernel.sgd_step
        self.recorded = []
        monkeypatch.setattr(backend.triton_kernel, "sgd_step", self)

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            self.recorded.append((grid, args, kwargs))
            self.kernel[grid](*args, **kwargs)

        return launch

    def replay(self, i):
        grid, args, kwargs = self.recorded[i]
        self.kernel[grid](*args, **kwargs)


def test_a_steady_step_is_one_launch_and_no_upload(monkeypatch):
    launches, uploads = Launches(monkeypatch), []
    upload = DeviceTable._upload
    monkeypatch.setattr(
        DeviceTable, "_upload", lambda self, words: (uploads.append(words), upload(self, words))
    )
    groups = [{"params": parameters((5, BLOCK + 1))}, {"params": parameters((7,)), "lr": 0.2}]
    opt = SGD(groups, lr=0.1, momentum=0.9, schedule=cosine(9), backend="triton")
    for step in range(4):
        opt.step()
        assert len(launches.recorded) == step + 1
        assert len(uploads) == 3
    opt.param_groups[0]["lr"] = 0.3
    opt.step()
    assert len(uploads) == 4
    p = opt.param_groups[0]["params"][0]
    p.grad = p.grad.clone()
    opt.step()
    assert len(uploads) == 5
    assert opt.steps_applied == len(launches.recorded) == 6


def test_gradients_are_not_kept_alive():
    (p,) = parameters((5,))
    opt = SGD([p], lr=0.1, backend="triton")
    opt.step()
    grad = weakref.ref(p.grad)
    opt.zero_grad()
    gc.collect()
    assert grad() is None


# -- graphs ---------------------------------------------------------------------------------------


def test_a_captured_launch_reads_the_same_tables_ever_after(monkeypatch):
    launches, capturing = Launches(monkeypatch), False
    monkeypatch.setattr(backend, "_capturing", lambda device: capturing)

    def make():
        return parameters((5, BLOCK + 1))

    ours = SGD(make(), lr=0.1, momentum=0.9, schedule=cosine(40), backend="triton")
    theirs = SGD(make(), lr=0.1, momentum=0.9, schedule=cosine(40), backend="reference")

    def pairs():
        return zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], strict=True)

    def new_gradients(seed):
        for p, q in pairs():
            p.grad = draw(p.numel(), torch.float32, seed)
            q.grad = p.grad.clone()

    def check():
        for p, q in pairs():
            assert torch.equal(p, q)
        assert ours.steps_applied == theirs.steps_applied

    def captured():
        nonlocal capturing
        capturing = True
        ours.step()
        capturing = False
        theirs.step()
        return len(launches.recorded) - 1, [p.grad for p, _ in pairs()]

    def replayed(graph):
        launch, grads = graph
        launches.replay(launch)
        for (_, q), grad in zip(pairs(), grads, strict=True):
            q.grad = grad.clone()
        theirs.step()

    for opt in (ours, theirs):
        opt.step()
    static = captured()  # with the eager step's gradients: its tables serve the graph as they are
    new_gradients(1)
    moved = captured()  # with gradients of its own
    new_gradients(2)
    for opt in (ours, theirs):
        opt.param_groups[0]["weight_decay"] = 0.5
        opt.step()
    check()
    for opt in (ours, theirs):
        opt.param_groups[0]["weight_decay"] = 0.0  # a graph has the numbers of its capture
    for graph in (static, moved, static):
        replayed(graph)
        check()
    new_gradients(3)
    for opt in (ours, theirs):
        opt.step()
    check()


@pytest.mark.parametrize("changed_before", [False, True], ids=["own table", "captured copy"])
def test_captured_launches_take_new_options_on_demand(monkeypatch, changed_before):
    launches, capturing = Launches(monkeypatch), False
    monkeypatch.setattr(backend, "_capturing", lambda device: capturing)
    (p,) = parameters((5,))
    p.grad.fill_(1.0)
    opt = SGD([p], lr=1.0, backend="triton")
    (group,) = opt.param_groups

    def moved(step):
        before = p.detach().clone()
        step()
        return (before - p.detach()).mean().item()

    opt.step()
    group["lr"] = 2.0 if changed_before else 1.0
    capturing = True
    opt.step()
    capturing = False
    group["lr"] = 4.0
    assert moved(lambda: launches.replay(-1)) == pytest.approx(2.0 if changed_before else 1.0)
    opt.update_captured()
    graph = len(launches.recorded) - 1
    plan = weakref.ref(opt._plan.parts[0])

    def replay():
        if changed_before:  # the copy at the head of the graph
            table, staging = plan()._group_table._captured[0]
            table.copy_(staging)
        launches.replay(graph)

    assert moved(replay) == pytest.approx(4.0)
    group["lr"] = 1.0
    assert moved(opt.step) == pytest.approx(1.0)
    opt.add_param_group({"params": parameters((3,))})
    opt.step()  # by another plan
    gc.collect()
    assert moved(replay) == pytest.approx(4.0)


def test_the_first_step_cannot_be_captured(monkeypatch):
    monkeypatch.setattr(backend, "_capturing", lambda device: True)
    opt = SGD(parameters((5,)), lr=0.1, backend="triton")
    with pytest.raises(RuntimeError, match="run one step before the capture"):
        opt.step()
    assert opt.steps_applied == 0


def test_a_capture_that_needs_pinned_memory_says_what_to_do(monkeypatch):
    table = DeviceTable(torch.device("cpu"))
    table.holding(words_of(b"12345678"), False)
    table.holding(words_of(b"abcdefgh"), True)  # takes the block that was put aside

    def fail(words):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(table, "_staging", fail)
    with pytest.raises(RuntimeError, match="run one step with the same parameters before each"):
        table.holding(words_of(b"ijklmnop"), True)


# -- which backend --------------------------------------------------------------------------------


def test_the_interpreter_serves_the_cpu_and_only_if_asked():
    found = fused_warmup.backends()["triton"]
    assert found.available
    assert "interpreter" in found.reason
    opt = SGD(parameters((3,)), lr=0.1)
    opt.step()
    assert not isinstance(opt._plan.parts[0], backend.TritonPlan)
