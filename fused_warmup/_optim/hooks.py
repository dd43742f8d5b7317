"""Step hooks and the profiler's label: once a step, whoever subclasses or patches it.

torch wraps the ``step`` of a class when an instance is made, at a price above a whole fused step,
and each wrapper on the way down runs all hooks. So `SGD.step` runs them itself, where there are
any, and subclasses are wrapped by `once`: the outermost step runs the hooks, those below it do not.
"""

import functools
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch.autograd import _profiler_enabled as profiler_enabled  # type: ignore[attr-defined]
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

# What torch wraps the step of other classes in; one of them may be a base beside ours.
_TORCHS_WRAPPER = Optimizer.profile_hook_step(lambda self: None).__code__


def once(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a subclass's ``step`` with the hooks around it; torch's ``profile_hook_step``."""
    if getattr(step, "__code__", None) is _TORCHS_WRAPPER:
        step = step.__wrapped__  # type: ignore[attr-defined]

    @functools.wraps(step)
    def hooked(*args: Any, **kwargs: Any) -> Any:
        optimizer = args[0]
        if (
            optimizer._optimizer_step_pre_hooks
            or optimizer._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
            or profiler_enabled()
        ):
            return run(step, *args, **kwargs)
        return step(*args, **kwargs)

    return hooked


@torch._disable_dynamo  # type: ignore[attr-defined]
def run(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``step`` with the hooks and the label around it, unless they are around it already.

    Args:
        step: The function.
        args: Its arguments, the optimizer first. A pre-hook may replace them.
        kwargs: Its keyword arguments.

    Raises:
        RuntimeError: A pre-hook returns something else than arguments.
    """
    optimizer = args[0]
    cls = type(optimizer)
    if optimizer._hooks_run or getattr(cls.step, "__code__", None) is _TORCHS_WRAPPER:
        return step(*args, **kwargs)
    with torch.autograd.profiler.record_function(f"Optimizer.step#{cls.__name__}.step"):
        for pre_hook in chain(
            torch_optimizer._global_optimizer_pre_hooks.values(),
            optimizer._optimizer_step_pre_hooks.values(),
        ):
            changed = pre_hook(optimizer, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        f"{pre_hook} must return None or a tuple of (new_args, new_kwargs), "
                        f"but got {changed}."
                    )
                args, kwargs = changed
        # Not around the hooks: one that steps again gets its hooks, as with torch.
        try:
            optimizer._hooks_run = True
            result = step(*args, **kwargs)
        finally:
            optimizer._hooks_run = False
        optimizer._optimizer_step_code()
        for post_hook in chain(
            optimizer._optimizer_step_post_hooks.values(),
            torch_optimizer._global_optimizer_post_hooks.values(),
        ):
            post_hook(optimizer, args, kwargs)
        return result
