"""Steps that others subclass, swap and patch: hooks, the profiler's label and RateLog work."""

import copy
import functools
import pickle
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import models, set_grads
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.profiler import profile

from fused_warmup import SGD, RateLog, linear_warmup


def make(cls: type = SGD) -> Any:
    return cls(models((3,)), lr=0.1, momentum=0.9, schedule=linear_warmup(8, 0.1))


# -- ways to change a step, each gives an optimizer -----------------------------------------------

WAYS: dict[str, Callable[[], Any]] = {}


def way(build: Callable[[], Any]) -> Callable[[], Any]:
    WAYS[build.__name__] = build
    return build


def clipping_class(cls: type) -> type:
    """detectron2.solver.build._generate_optimizer_class_with_gradient_clipping."""

    def optimizer_wgc_step(self: Any, closure: Any = None) -> None:
        torch.nn.utils.clip_grad_value_([p for g in self.param_groups for p in g["params"]], 9.0)
        super(type(self), self).step(closure)

    return type(cls.__name__ + "WithGradientClip", (cls,), {"step": optimizer_wgc_step})


def swapped(opt: Any) -> Any:
    opt.__class__ = clipping_class(type(opt))
    return opt


@way
def detectron2() -> Any:
    return swapped(make())


@way
def detectron2_and_a_load() -> Any:  # torch wraps the new class's step then
    opt = detectron2()
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    return opt


@way
def swapped_back() -> Any:
    opt = detectron2()
    opt.__class__ = SGD
    return opt


class Swapped(SGD):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


@way
def swapped_and_pickled() -> Any:
    opt = make()
    opt.__class__ = Swapped
    return pickle.loads(pickle.dumps(opt))


@way
def swapped_and_copied() -> Any:
    return copy.deepcopy(detectron2())


class Wrapped(SGD):
    @functools.wraps(SGD.step)  # takes over `hooked`
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


@way
def subclass_that_wraps_step() -> Any:
    return make(Wrapped)


class WrappedAgain(Wrapped):
    @functools.wraps(Wrapped.step)
    def step(self, *args: Any, **kwargs: Any) -> Any:
        return super().step(*args, **kwargs)


@way
def subclass_that_wraps_a_subclass() -> Any:
    return make(WrappedAgain)


class Sub(SGD):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class SubSub(Sub):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure=closure)


@way
def subclass_of_a_subclass() -> Any:
    make(Sub)  # torch wraps both steps
    return make(SubSub)


@way
def detectron2_over_a_subclass() -> Any:
    return swapped(make(Sub))


@way
def subclass_copied() -> Any:
    return copy.deepcopy(make(SubSub))


class Decorated(SGD):
    @torch.optim.Optimizer.profile_hook_step
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


@way
def subclass_under_torchs_own_wrapper() -> Any:
    return make(Decorated)


class Mixin(torch.optim.Optimizer):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class Mixed(Mixin, SGD):
    pass


@way
def beside_an_optimizer_that_torch_wraps() -> Any:
    Mixin(models((1,)), {})
    return make(Mixed)


@way
def patched_instance() -> Any:
    opt = make()
    original = opt.step
    opt.step = functools.wraps(original)(lambda *args, **kwargs: original(*args, **kwargs))
    return opt


@way
def patched_instance_without_wraps() -> Any:
    opt = make(Sub)
    original = opt.step
    opt.step = lambda *args: original(*args)
    return opt


@way
def bound_anew() -> Any:
    opt = make()
    opt.step = types.MethodType(lambda self, *args: type(self).step(self, *args), opt)
    return opt


@way
def torchs_schedulers() -> Any:
    opt = make()
    opt.kept = (ExponentialLR(opt, 0.9), LambdaLR(opt, lambda t: 1.0))
    return opt


@way
def torchs_schedulers_then_detectron2() -> Any:
    return swapped(torchs_schedulers())


@way
def detectron2_then_torchs_schedulers() -> Any:
    opt = detectron2()
    opt.kept = ExponentialLR(opt, 0.9)
    return opt


@way
def accelerate() -> Any:
    """accelerate.optimizer.patch_optimizer_step, as AcceleratedOptimizer does under a scaler."""
    opt = torchs_schedulers()

    def patch_optimizer_step(method: Any) -> Any:
        def patched_step(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return patched_step

    opt.step = patch_optimizer_step(opt.step)
    return opt


@way
def horovod() -> Any:
    """horovod.torch.DistributedOptimizer: a class of the same name, made from the groups."""
    opt = make()

    class Distributed:
        def __init__(self, params: Any) -> None:
            super(self.__class__, self).__init__(params)

        def step(self, closure: Any = None) -> Any:
            return super(self.__class__, self).step(closure)

    members = {k: v for k, v in vars(Distributed).items() if k in ("__init__", "step")}
    return type("SGD", (SGD,), members)(opt.param_groups)


class LightningOptimizer:
    """lightning.pytorch.core.optimizer.LightningOptimizer: passes for the class that it wraps."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self.__class__ = type("Lightning" + type(optimizer).__name__, (type(self), SGD), {})

    def __getattr__(self, item: str) -> Any:
        return getattr(self._optimizer, item)

    def step(self, closure: Any = None) -> Any:
        return self._optimizer.step(closure=closure)


@way
def lightning() -> Any:
    return LightningOptimizer(make())


@way
def lightning_over_detectron2() -> Any:
    return LightningOptimizer(detectron2())


@way
def compiled() -> Any:
    opt = make(Sub)
    original = opt.step
    opt.step = torch.compile(lambda: original(), backend="eager")
    return opt


@way
def plain() -> Any:
    return make()


# -- what must hold of each ------------------------------------------------------------------------

every_way = pytest.mark.parametrize("build", WAYS.values(), ids=WAYS)


def advance(opt: Any, step: int) -> None:
    set_grads([p for group in opt.param_groups for p in group["params"]], step)
    opt.step()


@every_way
def test_every_hook_fires_once_a_step(build) -> None:
    opt, seen = build(), []
    handles = [
        opt.register_step_pre_hook(lambda *_: seen.append("pre")),
        opt.register_step_post_hook(lambda *_: seen.append("post")),
        register_optimizer_step_pre_hook(lambda *_: seen.append("global pre")),
        register_optimizer_step_post_hook(lambda *_: seen.append("global post")),
    ]
    try:
        for step in range(2):
            advance(opt, step)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == ["global pre", "pre", "post", "global post"] * 2
    advance(opt, 2)
    assert len(seen) == 8
    assert opt.steps_applied == 3


@every_way
def test_the_profiler_shows_one_label_a_step(build) -> None:
    opt = build()
    with profile(acc_events=True) as profiled:
        advance(opt, 0)
    labels = [e.name for e in profiled.events() if e.name.startswith("Optimizer.step#")]
    inner = getattr(opt, "_optimizer", opt)
    assert labels == [f"Optimizer.step#{type(inner).__name__}.step"]


@every_way
def test_a_rate_log_notes_every_step(build) -> None:
    opt = build()
    log = RateLog(opt, 4)
    for step in range(3):
        advance(opt, step)
    assert [(row.t, row.skipped) for row in log.read().steps()] == [(t, False) for t in range(3)]


@every_way
def test_a_step_that_raises_leaves_the_next_one_its_hooks(build) -> None:
    opt, seen = build(), []
    opt.register_step_post_hook(lambda *_: seen.append("post"))
    kept, opt.param_groups[0]["lr"] = opt.param_groups[0]["lr"], -1.0
    with pytest.raises(ValueError, match="learning rate"):
        advance(opt, 0)
    opt.param_groups[0]["lr"] = kept
    advance(opt, 1)
    assert seen == ["post"]


def test_a_patched_class() -> None:
    original, seen = SGD.step, []
    SGD.step = lambda self, closure=None: original(self, closure)  # type: ignore[method-assign]
    try:
        opt = make()  # torch wraps the patch: it is not `hooked`
        opt.register_step_pre_hook(lambda *_: seen.append("pre"))
        advance(opt, 0)
    finally:
        SGD.step = original  # type: ignore[method-assign]
    assert seen == ["pre"]


def test_a_hook_that_steps_again_gets_its_hooks() -> None:
    for opt in (make(), make(Sub), torch.optim.SGD(models((3,)), lr=0.1)):
        seen: list[int] = []

        def again(opt: Any, *_: Any, seen: list[int] = seen) -> None:
            seen.append(len(seen))
            if len(seen) < 3:
                opt.step()

        opt.register_step_post_hook(again)
        advance(opt, 0)
        assert seen == [0, 1, 2]


def test_hooks_are_around_the_whole_step_of_a_subclass() -> None:
    seen: list[str] = []

    class Talking(SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append("begin")
            loss = super().step(closure)
            seen.append("end")
            return loss

    opt = make(Talking)
    opt.register_step_pre_hook(lambda *_: seen.append("pre"))
    opt.register_step_post_hook(lambda *_: seen.append("post"))
    advance(opt, 0)
    assert seen == ["pre", "begin", "end", "post"]


def test_a_pickled_optimizer_has_forgotten_its_hooks_as_torchs_has() -> None:
    opt, seen = make(Sub), []
    opt.register_step_pre_hook(lambda *_: seen.append("pre"))
    for other in (copy.deepcopy(opt), copy.copy(opt)):
        advance(other, 0)
    assert seen == []
