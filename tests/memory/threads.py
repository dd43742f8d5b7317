"""Cases: other threads, signal handlers and steps within steps work on what a step works on.

Whatever they put in a tensor's place, the kernel's memory has to last: parameters and gradients
here hold one number throughout, so that any other is seen. Left out is what spoils torch's own
operations as well: gradients set to None, and storages resized, from another thread.
"""

import copy
import gc
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from fused_warmup import SGD, linear_warmup

from .mechanisms import Haunted, Rubbish

N, STEPS = 20_000, 200

Act = Callable[[SGD, list[Tensor]], object]


def make(kind: type[torch.nn.Parameter] = torch.nn.Parameter) -> tuple[SGD, list[Tensor]]:
    """An optimizer in mid-training whose tensors are constant throughout."""
    params: list[Tensor] = [kind(torch.zeros(N)) for _ in range(4)]
    opt = SGD(params, lr=1.0, momentum=0.5, schedule=linear_warmup(4, 0.5))
    for p in params:
        p.grad = torch.ones(N)
    opt.step()
    return opt, params


def check(params: list[Tensor]) -> None:
    """Assert that every parameter holds one number, and no garbage."""
    for p in params:
        now = p.detach()  # once: p's data may be others a moment later
        low, high = float(now.min()), float(now.max())
        assert low == high, f"elements from {low} to {high} in a tensor of equal ones"
        assert abs(low) < 1e6, f"{low} out of sums of small numbers"


def step(opt: SGD) -> None:
    """Step; what changes again and again while a step is being made may be refused."""
    try:
        opt.step()
    except RuntimeError as error:
        if "while the step" not in str(error) and "does not fit" not in str(error):
            raise


def reset(opt: SGD, params: list[Tensor]) -> None:
    for p in params:
        p.data = torch.zeros(N)
        opt.state[p]["momentum_buffer"].data = torch.ones(N)
        p.grad = torch.ones(N)


def each(change: Callable[[SGD, Tensor], object]) -> Act:
    return lambda opt, params: [change(opt, p) for p in params]


def _momentum(opt: SGD, p: Tensor, value: Tensor) -> None:
    opt.state[p]["momentum_buffer"].data = value


def _storage(tensor: Tensor) -> None:
    tensor.untyped_storage().resize_(4 * N + 4096)


REPLACE: dict[str, Act] = {
    "gradients": each(lambda opt, p: setattr(p, "grad", torch.ones(N))),
    "gradients_data": each(lambda opt, p: setattr(p.grad, "data", torch.ones(N))),
    "data": each(lambda opt, p: setattr(p, "data", torch.zeros(N))),
    "momentum_data": each(lambda opt, p: _momentum(opt, p, torch.ones(N))),
    "momentum_new": each(lambda opt, p: opt.state[p].__setitem__("momentum_buffer", torch.ones(N))),
    "count_data": each(lambda opt, p: setattr(opt.state[p]["step"], "data", torch.tensor(3))),
    "lr": lambda opt, params: opt.param_groups[0].update(lr=torch.tensor(1.0)),
    "schedule": lambda opt, params: opt.param_groups[0].update(schedule=None),
    "state": lambda opt, params: opt.load_state_dict(opt.state_dict()),
    "copies": lambda opt, params: (copy.deepcopy(opt), pickle.dumps(opt)),
    "counting": lambda opt, params: (opt.steps_applied, opt.get_last_lr()),
    "scalars": lambda opt, params: opt.__dict__.update(
        grad_scale=torch.tensor(1.0), found_inf=torch.tensor(0.0)
    ),
    "storages": lambda opt, params: [
        f(x) for p in params for f in (_storage,) for x in (p, opt.state[p]["momentum_buffer"])
    ],
}


@contextmanager
def often() -> Iterator[None]:
    """Let threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def race(act: Act) -> None:
    """One thread steps, another changes what it steps on."""
    opt, params = make()
    stopped = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        while not stopped.is_set():
            try:
                act(opt, params)
            except Exception as error:  # told below: a race may not spoil a reader either
                errors.append(error)
                return

    other = threading.Thread(target=run)
    with often():
        other.start()
        try:
            for i in range(STEPS):
                if i % 10 == 0:
                    reset(opt, params)
                step(opt)
                check(params)
        finally:
            stopped.set()
            other.join()
    assert not errors, f"the other thread: {errors[0]!r}"


def steps_from_many_threads(momentum: float) -> None:
    """A step from any thread is a whole step: so many of them come to what one thread's come to."""
    n, threads = 50, 4
    results = []
    for parallel in (True, False):
        params = [torch.nn.Parameter(torch.zeros(N)) for _ in range(3)]
        opt = SGD(params, lr=0.5, momentum=momentum, schedule=linear_warmup(100, 0.1))
        for p in params:
            p.grad = torch.ones(N)

        def run(opt: SGD = opt) -> None:
            for _ in range(n):
                opt.step()

        with often():
            if parallel:
                workers = [threading.Thread(target=run) for _ in range(threads)]
                for each_worker in workers:
                    each_worker.start()
                for each_worker in workers:
                    each_worker.join()
            else:
                for _ in range(threads):
                    run()
        assert opt.steps_applied == n * threads, f"{opt.steps_applied} of {n * threads} counted"
        check(params)
        results.append([p.detach().clone() for p in params])
    for ours, wanted in zip(*results, strict=True):
        assert torch.equal(ours, wanted)


def many_optimizers() -> None:
    """Threads with an optimizer each do not meet."""
    made = [make() for _ in range(4)]
    with often():
        workers = [
            threading.Thread(target=lambda opt=opt: [opt.step() for _ in range(50)])
            for opt, _ in made
        ]
        for each_worker in workers:
            each_worker.start()
        for each_worker in workers:
            each_worker.join()
    for opt, params in made:
        assert opt.steps_applied == 51
        check(params)
        assert torch.equal(params[0], made[0][1][0])


def signals(act: Act) -> None:
    """A handler changes what a step works on, at moments that the clock chooses."""
    opt, params = make()
    busy = False

    def handle(*_: object) -> None:
        nonlocal busy
        if not busy:
            busy = True
            act(opt, params)
            busy = False

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 3e-4, 5e-4)
    try:
        for i in range(STEPS):
            if i % 10 == 0:
                reset(opt, params)
            step(opt)
            check(params)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def within_closure(opt: SGD, params: list[Tensor], act: Callable[[], object]) -> None:
    opt.step(lambda: (act(), 0.0)[1])


def within_hook(opt: SGD, params: list[Tensor], act: Callable[[], object]) -> None:
    handle = opt.register_step_pre_hook(lambda *_: (handle.remove(), act(), None)[-1])
    opt.step()


def within_gradient(opt: SGD, params: list[Tensor], act: Callable[[], object]) -> None:
    def asked() -> None:
        Haunted.asked = None
        act()

    Haunted.asked = asked
    opt.step()


def within_collection(opt: SGD, params: list[Tensor], act: Callable[[], object]) -> None:
    gc.collect()
    before = gc.get_threshold()
    Rubbish(act)
    gc.set_threshold(1, 1, 1)
    try:
        opt.step()
    finally:
        gc.set_threshold(*before)
    gc.collect()


def nested(enter: Callable[..., None]) -> None:
    """A step within a step is done or refused, and never half of both; nothing waits for itself."""
    opt, params = make(Haunted)
    for _ in range(20):
        count, inner = opt.steps_applied, []

        def act(inner: list[bool] = inner) -> None:
            try:
                opt.step()
            except RuntimeError:
                inner.append(False)
            else:
                inner.append(True)

        outer = True
        try:
            enter(opt, params, act)
        except RuntimeError:
            outer = False
        assert len(inner) == 1
        check(params)
        assert opt.steps_applied == count + outer + inner[0]
        assert torch.equal(params[0], params[-1])


def copies_of_a_lock() -> None:
    """What keeps threads apart does not keep an optimizer from being copied, in a step either."""
    opt, params = make()
    taken: list[SGD] = []

    def closure() -> float:
        taken.append(copy.deepcopy(opt))
        taken.append(pickle.loads(pickle.dumps(opt)))
        return 0.0

    opt.step(closure)
    for each_copy in taken:
        for p in each_copy.param_groups[0]["params"]:
            p.grad = torch.ones(N)
        each_copy.step()
        assert each_copy.steps_applied == 2
        assert torch.equal(each_copy.param_groups[0]["params"][0], params[0])


BY_SIGNAL = ("gradients", "data", "momentum_data", "momentum_new", "state", "storages")

CASES: dict[str, Callable[[], None]] = {
    **{f"race-{name}": partial(race, act) for name, act in REPLACE.items() if name != "storages"},
    **{f"signal-{name}": partial(signals, REPLACE[name]) for name in BY_SIGNAL},
    "signal-gradients_none": partial(signals, each(lambda opt, p: setattr(p, "grad", None))),
    **{
        f"nested-{enter.__name__}": partial(nested, enter)
        for enter in (within_closure, within_hook, within_gradient, within_collection)
    },
    "steps_from_many_threads-momentum": partial(steps_from_many_threads, 0.5),
    "steps_from_many_threads-still": partial(steps_from_many_threads, 0.0),
    "many_optimizers": many_optimizers,
    "copies_of_a_lock": copies_of_a_lock,
}


def warm_up() -> None:
    """Let torch import what it imports late."""
    opt, _ = make()
    opt.step(lambda: 0.0)
    copy.deepcopy(opt)
