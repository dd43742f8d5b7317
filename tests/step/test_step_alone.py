"""The one native call that most steps are: when it is taken, and when more is to be done."""

import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support import models, same_bits, set_grads
from torch.autograd import forward_ad
from torch.optim.optimizer import register_optimizer_step_post_hook

from fused_warmup import _C, SGD, clip_grad_norm_, linear_warmup

pytestmark = pytest.mark.skipif(not _C.reads_libtorch(), reason="torch is asked through Python")


def stepped(n: int = 2) -> SGD:
    opt = SGD(models((3,), (2, 2)), lr=0.5, momentum=0.9, schedule=linear_warmup(4))
    for i in range(n):
        set_grads(opt.param_groups[0]["params"], i)
        opt.step()
    return opt


def test_most_steps_are_made_alone() -> None:
    opt, other = stepped(), stepped()
    for i in range(3):
        for each in (opt, other):
            set_grads(each.param_groups[0]["params"], 5 + i)
        assert opt._host_step.run_alone(opt) is True
        with torch.profiler.record_function("a label"):
            other.step()
        pairs = zip(*(each.param_groups[0]["params"] for each in (opt, other)), strict=True)
        assert all(same_bits(p, q) for p, q in pairs)
    assert opt.steps_applied == other.steps_applied == 5


class Number(float):
    """A number of Python's own with code of the user's, which nothing asks."""

    def __float__(self) -> float:
        raise AssertionError


def entered(manager: Any) -> Any:
    manager.__enter__()
    return manager


MORE_TO_DO: dict[str, Callable[[SGD], Any]] = {
    "a hook before": lambda opt: opt.register_step_pre_hook(lambda *_: None),
    "a hook after": lambda opt: opt.register_step_post_hook(lambda *_: None),
    "a hook of all optimizers": lambda opt: register_optimizer_step_post_hook(lambda *_: None),
    "a profiler": lambda opt: entered(torch.autograd.profiler.profile()),
    "tangents": lambda opt: entered(forward_ad.dual_level()),
    "clipping": lambda opt: clip_grad_norm_(opt, 1.0),
    "a step that is being made": lambda opt: setattr(opt, "_is_updating", True),
    "a number to ask for": lambda opt: opt.param_groups[0].update(weight_decay=np.float32(0.1)),
    "a flag to ask for": lambda opt: opt.param_groups[0].update(maximize=np.bool_(False)),
    "scalars that are no tensors": lambda opt: setattr(opt, "found_inf", 0),
    "another rate": lambda opt: opt.param_groups[0].update(lr=0.125),
    "another parameter": lambda opt: opt.add_param_group({"params": models((2,))}),
    "another state": lambda opt: opt.state[opt.param_groups[0]["params"][0]].clear(),
    "no state": lambda opt: opt.__dict__.pop("state"),
    "no groups": lambda opt: opt.param_groups.clear(),
    "groups that are no list": lambda opt: setattr(opt, "param_groups", (*opt.param_groups,)),
    "hooks in another dict": lambda opt: setattr(opt, "_optimizer_step_pre_hooks", {0: print}),
    "no dict of hooks": lambda opt: setattr(opt, "_optimizer_step_post_hooks", None),
    "updates made in backward": lambda opt: setattr(opt, "_in_backward", object()),
    "other attributes": lambda opt: setattr(opt, "__dict__", {**vars(opt), "_is_updating": None}),
    "no attributes": lambda opt: opt.__dict__.clear(),
}


@pytest.mark.parametrize("more", MORE_TO_DO)
def test_a_step_with_more_to_do_is_left_to_python(more: str) -> None:
    opt = stepped(4)  # which knows by now all that a step relies on
    params = opt.param_groups[0]["params"]
    set_grads(params, 7)
    before = [p.detach().clone() for p in params]
    host_step = opt._host_step
    undo = MORE_TO_DO[more](opt)
    try:
        assert host_step.run_alone(opt) is False
    finally:
        if hasattr(undo, "remove"):
            undo.remove()
        if more in ("a profiler", "tangents"):
            undo.__exit__(None, None, None)
    assert all(map(same_bits, params, before))


def test_a_number_of_the_users_own_kind_runs_no_code() -> None:
    opt = stepped()
    opt.param_groups[0]["lr"] = Number(0.25)
    assert opt._host_step.run_alone(opt) is False  # a rate to look at: does a scheduler move it?
    opt.step()
    assert opt._host_step.run_alone(opt) is True
    assert opt.get_last_lr() == [0.25 * 3 / 4]


def test_only_a_step_of_its_own_class_and_made_by_it() -> None:
    opt = stepped()
    with pytest.raises(TypeError, match="run_alone"):
        _C.HostStep.run_alone(opt, opt)
    with pytest.raises(TypeError, match="__init__"):
        _C.HostStep.__new__(_C.HostStep).run_alone(opt)
    for no_optimizer in (None, 3, object()):
        with contextlib.suppress(AttributeError, TypeError):
            assert opt._host_step.run_alone(no_optimizer) is False


def test_an_optimizer_is_freed_with_its_step() -> None:
    opt = stepped()
    gone = weakref.ref(opt)
    opt.param_groups[0]["params"][0].optimizer = opt  # a cycle through the native step
    del opt
    gc.collect()
    assert gone() is None


def test_a_compiled_step_never_sees_it() -> None:
    opt = stepped(3)
    set_grads(opt.param_groups[0]["params"], 9)
    torch._dynamo.reset()
    compiled = torch.compile(opt.step, backend="eager")
    before = opt.steps_applied
    for _ in range(2):
        compiled()
    assert opt.steps_applied == before + 2
    torch._dynamo.reset()
