"""Parameters and gradients that share memory: updated one after the other, as torch's loop does."""

import pytest
import torch
from support import parameter, randn, same_bits

from fused_warmup import SGD
from fused_warmup._step.overlaps import overlapping, span_of, waves
from fused_warmup._step.plan import Plan

N = 70_000  # work for two threads
BACKENDS = [None, "cpu", "reference"]
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def same_memory(base):
    return [parameter(base), parameter(base)]


def shifted_views(base):
    return [parameter(base[: N - 7]), parameter(base[7:]), parameter(base[N // 2 : N // 2 + 9])]


def one_inside_another(base):
    return [parameter(base[100:300]), parameter(base), parameter(base[5:50])]


def one_among_others(base):
    others = [parameter(randn(n, seed=n)) for n in (33, 5)]
    return [others[0], parameter(base), others[1], parameter(base)]


LAYOUTS = [same_memory, shifted_views, one_inside_another, one_among_others]


def steps(make, opt_class, n_steps=4, **options):
    params = make(randn(N, seed=1))
    opt = opt_class(params, lr=0.1, **options)
    for step in range(n_steps):
        for i, p in enumerate(params):
            p.grad = randn(*p.shape, seed=10 * step + i)
        if step == 2:
            params[0].grad = None
        opt.step()
    return params


@every_backend
@pytest.mark.parametrize("make", LAYOUTS)
@pytest.mark.parametrize(
    "momentum", [{}, {"momentum": 0.9, "dampening": 0.5}], ids=["", "momentum"]
)
def test_parameters_that_share_memory_from_the_start(make, momentum, backend) -> None:
    options = {"weight_decay": 0.01, **momentum}
    ours = steps(make, SGD, backend=backend, **options)
    theirs = steps(make, torch.optim.SGD, foreach=False, **options)
    assert all(map(same_bits, ours, theirs))


def twice(base):
    p = parameter(base)
    return [p, p]


@every_backend
@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_parameter_that_a_group_holds_twice(backend) -> None:
    ours = steps(twice, SGD, backend=backend, weight_decay=0.01)
    theirs = steps(twice, torch.optim.SGD, foreach=False, weight_decay=0.01)
    assert same_bits(ours[0], theirs[0])


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_such_a_parameter_has_one_momentum(dampening, backend) -> None:
    """Two updates a step, one after the other, of one buffer.

    torch makes two buffers in the first step, and drops one.
    """
    momentum, lr = 0.9, 0.1
    p, value = parameter(torch.ones(3)), torch.ones(3)
    buffer = torch.zeros(3)
    opt = SGD([p, p], lr=lr, momentum=momentum, dampening=dampening, backend=backend)
    for update in range(6):
        weight = 1.0 if update == 0 else 1 - dampening
        buffer.mul_(momentum).add_(torch.full((3,), 2.0), alpha=weight)
        value.add_(buffer, alpha=-lr)
        if update % 2:
            p.grad = torch.full((3,), 2.0)
            opt.step()
            assert same_bits(p, value)


@every_backend
@pytest.mark.parametrize("what", ["parameter", "momentum"])
def test_memory_that_is_shared_later(what, backend) -> None:
    """By ``.data``, as code that ties weights does: no Python object is another one."""

    def run(opt_class, **options):
        params = [parameter(randn(N, seed=i)) for i in range(3)]
        opt = opt_class(params, lr=0.1, momentum=0.9, **options)
        for step in range(5):
            for i, p in enumerate(params):
                p.grad = randn(N, seed=10 * step + i)
            if step == 2:
                a, b = params[0], params[2]
                if what == "momentum":
                    a, b = (opt.state[p]["momentum_buffer"] for p in (a, b))
                b.data = a.data
            if step == 4:
                params[2].data = params[2].data.clone()
            opt.step()
        return params

    ours, theirs = run(SGD, backend=backend), run(torch.optim.SGD, foreach=False)
    assert all(map(same_bits, ours, theirs))


@every_backend
@pytest.mark.parametrize("skipped", [False, True])
def test_gradients_that_share_memory_are_unscaled_once(skipped, backend) -> None:
    params = [parameter(randn(N, seed=i)) for i in range(2)]
    expected = [parameter(p.detach().clone()) for p in params]
    grad = randn(N, seed=5)
    opt = SGD(params, lr=0.1, momentum=0.9, backend=backend)
    plain = torch.optim.SGD(expected, lr=0.1, momentum=0.9, foreach=False)
    for _ in range(3):
        scaled = grad * 8
        for p, q in zip(params, expected, strict=True):
            p.grad, q.grad = scaled, grad
        opt.grad_scale, opt.found_inf = torch.tensor(8.0), torch.tensor(float(skipped))
        opt.step()
        assert same_bits(scaled, grad * 8 if skipped else grad)
        if not skipped:
            plain.step()
    assert all(map(same_bits, params, expected))


@every_backend
def test_neighbours_are_not_overlaps(backend) -> None:
    """Slices of one flat tensor, as DDP's buckets and flattened models have them: one launch."""
    flat = randn(3000, seed=0)
    params = [parameter(flat[i * 1000 : (i + 1) * 1000]) for i in range(3)]
    opt = SGD(params, lr=0.1, momentum=0.9, backend=backend)
    for p in params:
        p.grad = torch.ones(1000)
    opt.step()
    assert len(opt._plan.parts) == 1


def test_spans() -> None:
    base = torch.zeros(10)
    at = base.data_ptr()
    assert span_of(base[2:5]) == (at + 8, at + 20)
    assert span_of(torch.zeros(4, 3)[:, 1]) is not None
    assert span_of(torch.zeros(3, 4).t()[1:2]) is not None
    for nothing in (None, torch.zeros(0), torch.zeros(3, device="meta"), torch.eye(2).to_sparse()):
        assert span_of(nothing) is None


def test_waves_are_in_the_order_of_the_parameters() -> None:
    spans = [[(0, 10)], [(20, 30)], [(5, 25)], [(8, 9), None], [(29, 40)], [(100, 110)]]
    assert sorted(set(overlapping(spans))) == [(0, 2), (0, 3), (1, 2), (1, 4), (2, 3)]
    assert waves(spans, [False] * 6) == [0, 0, 1, 2, 1, 0]
    assert waves(spans, [True] * 6) == [0] * 6
    assert waves(spans, [True, True, False, True, True, True]) == [0, 0, 1, 2, 0, 0]


def _grad_of_another(params, opt):
    params[1].grad = params[0].detach()


def _grad_of_a_later_one(params, opt):
    params[0].grad = params[1].detach()


def _grad_transposed(params, opt):
    params[1].grad = params[0].detach().t()


def _grad_of_another_momentum(params, opt):
    params[2].grad = opt.state[params[0]]["momentum_buffer"]


def _grad_of_two_and_back(params, opt):
    params[0].grad, params[2].grad = params[2].detach(), params[0].detach()


def _grad_is_its_parameter(params, opt):
    params[1].grad = params[1].detach()


def _grad_is_its_momentum(params, opt):
    params[1].grad = opt.state[params[1]]["momentum_buffer"]


def _momentum_is_its_parameter(params, opt):
    opt.state[params[1]]["momentum_buffer"] = params[1].detach()


GRADIENTS = [
    _grad_of_another,
    _grad_of_a_later_one,
    _grad_transposed,
    _grad_of_another_momentum,
    _grad_of_two_and_back,
    _grad_is_its_parameter,
    _grad_is_its_momentum,
    _momentum_is_its_parameter,
]


@pytest.mark.parametrize("backend", [None, "reference"], ids=str)
@pytest.mark.parametrize("tie", [False, True], ids=["", "tied"])
@pytest.mark.parametrize("share", GRADIENTS)
def test_gradients_in_memory_that_the_step_updates(share, tie, backend) -> None:
    """Each update reads what those before it have left, as in torch's loop."""

    def run(opt_class, **options):
        params = [parameter(randn(300, 300, seed=i)) for i in range(4)]
        if tie:
            params[3] = parameter(params[0].detach())
        opt = opt_class(params, lr=0.1, momentum=0.9, weight_decay=0.01, **options)
        for step in range(6):
            for i, p in enumerate(params):
                p.grad = randn(*p.shape, seed=10 * step + i)
            if step in (2, 3):
                share(params, opt)
            opt.step()
        return params

    ours, theirs = run(SGD, backend=backend), run(torch.optim.SGD, foreach=False)
    assert all(map(same_bits, ours, theirs))


def test_what_torch_refuses_is_refused() -> None:
    """A gradient, or a momentum, that lies a little beside its parameter."""
    base = torch.arange(N + 1.0)
    p = parameter(base[1:])
    opt = SGD([p], lr=0.1)
    for step in range(3):
        p.grad = base[:-1] if step == 1 else torch.ones(N)
        before = base.clone()
        if step == 1:
            with pytest.raises(RuntimeError, match="single memory location"):
                opt.step()
        else:
            opt.step()
        assert same_bits(base, before) == (step == 1)
    opt = SGD([p], lr=0.1, momentum=0.9)
    opt.step()
    opt.state[p]["momentum_buffer"] = base[:-1]
    with pytest.raises(RuntimeError, match="single memory location"):
        opt.step()
    assert opt.steps_applied == 1


@pytest.mark.parametrize("share", GRADIENTS)
def test_a_backend_that_was_asked_for_says_what_it_cannot_do(share) -> None:
    params = [parameter(randn(3, 3, seed=i)) for i in range(3)]
    opt = SGD(params, lr=0.1, momentum=0.9, backend="cpu")
    for p in params:
        p.grad = torch.ones(3, 3)
    opt.step()
    share(params, opt)
    before = [p.detach().clone() for p in params]
    with pytest.raises(TypeError, match="shares memory with what the step updates"):
        opt.step()
    assert all(map(same_bits, params, before))
    assert opt.steps_applied == 1


def test_gradients_that_move_between_their_neighbours_stay_on_the_fast_path(monkeypatch) -> None:
    params = [parameter(randn(50, seed=i)) for i in range(5)]
    opt = SGD(params, lr=0.1, momentum=0.9)
    monkeypatch.setattr(opt, "_step_after_a_change", lambda *_: pytest.fail("not the fast path"))
    pool = randn(10, 50, seed=0)
    opt._complete_state()
    opt._plan = Plan(opt.state, opt.param_groups, opt._counters, opt._lr, None)
    for step in range(6):
        for i, p in enumerate(params):
            p.grad = pool[(3 * i + step) % 10]
        opt.step()
    assert opt.steps_applied == 6
