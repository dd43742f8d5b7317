"""What the cases act on: an optimizer of ours in mid-training, and torch's that does the same.

`Ours` has everything on that a step may read: groups, momentum, dampening with its marks, a
schedule, a tensor lr, AMP's scalars. `Torchs` is torch.optim.SGD told by hand what ours works out
itself.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from support import randn, same_bits
from torch import Tensor

from fused_warmup import SGD, linear_warmup

SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")
"""Under the sanitizers, where all is slow: a share of the cases."""

SHAPES = ((33,), (4, 3), (70,), (4, 4))  # the last one is the target
SCALE = 4.0  # a power of two, by which multiplication and division are exact
SCHEDULE = linear_warmup(4, count_from=1)

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"momentum": 0.9},
    "still": {"momentum": 0.0},
    "everything": {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
    "reference": {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
    "triton": {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
}


@cache
def values(shape: tuple[int, ...], seed: int) -> Tensor:
    return randn(*shape, seed=seed)


class Subject:
    """Parameters in two groups with an optimizer; `step` is what a training loop does.

    Args:
        setting: A name of SETTINGS. "everything", "reference" and "triton" bring a schedule, a
            tensor lr and AMP's scalars, too.
        kind: The class of the parameters.
    """

    opt: torch.optim.Optimizer

    def __init__(self, setting: str, kind: type[torch.nn.Parameter] = torch.nn.Parameter) -> None:
        self.options = SETTINGS[setting]
        self.all_on = setting in ("everything", "reference", "triton")
        self.params = [kind(values(shape, i).clone()) for i, shape in enumerate(SHAPES)]
        self.groups = [{"params": self.params[:2]}, {"params": self.params[2:]}]
        self.t = 0

    def set_grads(self, leave_out: Tensor | None = None) -> None:
        """Give each parameter, ``leave_out`` excepted, the gradient of this step, scaled."""
        scale = SCALE if self.all_on else 1.0
        for i, p in enumerate(self.params):
            grad = values(tuple(p.shape), 1000 * self.t + i) * scale
            p.grad = None if p is leave_out else grad.to(p.dtype)

    def step(self, closure: Callable[[], float] | None = None) -> None:
        self.t += 1
        self.opt.step(closure)

    def train(self, steps: int, leave_out: Tensor | None = None) -> None:
        for _ in range(steps):
            self.set_grads(leave_out)
            self.step()


class Ours(Subject):
    opt: SGD

    def __init__(self, setting: str, kind: type[torch.nn.Parameter] = torch.nn.Parameter) -> None:
        super().__init__(setting, kind)
        backend = setting if setting in ("reference", "triton") else None
        options: dict[str, Any] = {**self.options, "lr": 0.1, "backend": backend}
        if self.all_on:
            options["schedule"] = SCHEDULE
        self.opt = SGD(self.groups, **options)
        if self.all_on:
            for group in self.opt.param_groups:
                group["lr"] = torch.tensor(0.1, dtype=torch.float64)
            self.opt.grad_scale, self.opt.found_inf = torch.tensor(SCALE), torch.tensor(0.0)
        # CPython 3.11 itself crashes where a finaliser asks for the dict that is being made.
        _ = self.opt.__dict__


class Torchs(Subject):
    """By hand: the rates of the schedule, and AMP's division of the gradients."""

    def __init__(self, setting: str) -> None:
        super().__init__(setting)
        self.opt = torch.optim.SGD(self.groups, lr=0.1, foreach=False, **self.options)
        self.scale = SCALE
        self.base_lr = [0.1, 0.1]
        self.skips = False

    def step(self, closure: Callable[[], float] | None = None) -> None:
        if closure is not None:
            closure()
        if self.skips:
            return
        if self.all_on:
            for group, lr in zip(self.opt.param_groups, self.base_lr, strict=True):
                group["lr"] = lr * SCHEDULE(self.t)
            with torch.no_grad():
                for p in self.params:
                    if p.grad is not None:
                        p.grad.data = (p.grad * (1 / self.scale)).to(p.grad.dtype)
        super().step()

    def follow(self, name: str, value: float | None) -> None:
        """Take over what a number of ours, which torch has no tensor for, has become."""
        if value is None:
            self.scale = 1.0 if name == "grad_scale" else self.scale
            return
        last = self.params[-1]
        if name in ("count", "step"):
            self.t = int(value)
        elif name == "lr":
            self.base_lr[-1] = value
        elif name == "grad_scale":
            self.scale = value
        elif name == "found_inf":
            self.skips = value != 0
        elif name == "first_step" and int(value) not in (-1, self.t):
            entry = self.opt.state[last]
            if entry.get("momentum_buffer") is None:
                entry["momentum_buffer"] = torch.zeros_like(last)


@dataclass(frozen=True)
class Target:
    """One tensor that a step touches: where it is kept, and how an error may call it."""

    name: str
    words: tuple[str, ...]
    get: Callable[[Any], Any]
    set: Callable[[Any, Any], None] | None  # None: only the tensor itself can be changed
    delete: Callable[[Any], None] | None = None
    in_torch: bool = False  # torch.optim.SGD has it, too


def _entry(key: str, words: tuple[str, ...], in_torch: bool = False) -> Target:
    def get(s: Subject) -> Any:
        return s.opt.state[s.params[-1]][key]

    def put(s: Subject, value: Any) -> None:
        s.opt.state[s.params[-1]][key] = value

    def delete(s: Subject) -> None:
        del s.opt.state[s.params[-1]][key]

    return Target(key, words, get, put, delete, in_torch)


def _count_of_all() -> Target:
    def put(s: Subject, value: Any) -> None:
        for p in s.params:
            s.opt.state[p]["step"] = value

    def delete(s: Subject) -> None:
        for p in s.params:
            del s.opt.state[p]["step"]

    return Target("count", ("step",), lambda s: s.opt.state[s.params[0]]["step"], put, delete)


def _attribute(name: str) -> Target:
    return Target(
        name,
        (name,),
        lambda s: getattr(s.opt, name),
        lambda s, value: setattr(s.opt, name, value),
        lambda s: delattr(s.opt, name),
    )


def _put_grad(s: Subject, value: Any) -> None:
    s.params[-1].grad = value


def _delete_grad(s: Subject) -> None:
    del s.params[-1].grad


TARGETS = [
    Target("param", ("parameter",), lambda s: s.params[-1], None, in_torch=True),
    Target(
        "grad", ("gradient",), lambda s: s.params[-1].grad, _put_grad, _delete_grad, in_torch=True
    ),
    _entry("momentum_buffer", ("momentum_buffer",), in_torch=True),
    _entry("first_step", ("first_step",)),
    _entry("step", ("step",)),
    _count_of_all(),
    Target("rate", ("rate", "lr"), lambda s: s.opt.lr_tensor(), None),
    Target(
        "lr",
        ("lr", "learning rate"),
        lambda s: s.opt.param_groups[-1]["lr"],
        lambda s, value: s.opt.param_groups[-1].__setitem__("lr", value),
        lambda s: s.opt.param_groups[-1].__delitem__("lr"),
    ),
    _attribute("grad_scale"),
    _attribute("found_inf"),
]


def image(tensor: Any) -> Any:
    """Return what can be compared of a tensor that may have lost its memory."""
    if not isinstance(tensor, Tensor) or tensor.is_meta or tensor.layout != torch.strided:
        return repr(tensor)
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return repr(tensor)
    needed = tensor.storage_offset() + 1
    needed += sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    if tensor.numel() and tensor.untyped_storage().nbytes() < needed * tensor.element_size():
        return "without memory"
    return tensor.detach().clone()


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same_bits(a, b)
    return type(a) is type(b) and bool(a == b)


def images(s: Subject, without: object = None) -> dict[str, Any]:
    """Everything that a step may change, the tensor ``without`` left out."""
    found: dict[str, Any] = {}
    for i, p in enumerate(s.params):
        found[f"parameter {i}"] = p
        found[f"gradient {i}"] = p.grad
        for key, value in s.opt.state.get(p, {}).items():
            if value is not None:
                found[f"{key} {i}"] = value
    if isinstance(s.opt, SGD):
        try:
            found["rate of all"] = s.opt.lr_tensor()
        except Exception as error:
            found["rate of all"] = repr(error)
    return {name: image(value) for name, value in found.items() if value is not without}


def differences(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Tell where two dicts of images differ; "" if nowhere."""
    names = [name for name in {**a, **b} if not alike(a.get(name), b.get(name))]
    return "; ".join(f"{n} is {brief(a.get(n))}, not {brief(b.get(n))}" for n in names[:3])


def brief(value: Any) -> str:
    if type(value) not in (Tensor, torch.nn.Parameter):
        return repr(value)[:60]
    return f"{value.dtype} of {tuple(value.shape)} {value.flatten()[:3].tolist()}"


def same_as_torch(ours: Ours, torchs: Torchs, rough: bool = False) -> str:
    """Tell where ours differs from torch's in what both have.

    Args:
        ours: Ours.
        torchs: torch's.
        rough: Compare numbers, to 1%, and not bits: another dtype came in, and the two round
            momentum of mixed dtypes at other places.
    """
    theirs = {name: each for name, each in images(torchs).items() if isinstance(each, Tensor)}
    mine = {name: value for name, value in images(ours).items() if name in theirs}
    if not rough:
        return differences(mine, theirs)
    names = [name for name in mine if not _close(mine[name], theirs[name])]
    return differences({n: mine[n] for n in names}, {n: theirs[n] for n in names})


def _close(a: Any, b: Any) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return alike(a, b)
    wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    return torch.allclose(a.to(wide), b.to(wide), rtol=0.01, atol=0.01)
