"""Where things are: what users may name, and what pickles name."""

import inspect
import pickle
import pickletools
from typing import Any

import pytest
import torch

import fused_warmup
from fused_warmup import (
    SGD,
    from_super_gradients,
    large_minibatch,
    linear_warmup,
)


def modules_named_in(data: bytes) -> set[str]:
    """Return the modules of this package that a pickle imports."""
    strings = [str(value) for _, value, _ in pickletools.genops(data) if isinstance(value, str)]
    modules = {text.split(" ")[0] for text in strings}  # GLOBAL holds "module name"
    return {name for name in modules if name.partition(".")[0] == "fused_warmup"}


def optimizer() -> SGD:
    opt = SGD([torch.zeros(2, requires_grad=True)], 0.1, momentum=0.9, schedule=linear_warmup(4))
    opt.param_groups[0]["params"][0].sum().backward()
    opt.step()
    return opt


@pytest.mark.parametrize(
    "thing",
    [
        optimizer(),
        optimizer().scheduler(),
        optimizer().state_dict(),
        linear_warmup(4),
        large_minibatch(256, steps_per_epoch=10),
        from_super_gradients({"max_epochs": 2, "initial_lr": 0.1}, steps_per_epoch=3),
    ],
    ids=lambda thing: type(thing).__name__,
)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickles_name_public_modules_only(thing: Any, protocol: int) -> None:
    data = pickle.dumps(thing, protocol)
    named = modules_named_in(data)
    assert [name for name in named if "._" in name] == []
    pickle.loads(data)


def test_pickle_of_an_optimizer_names_a_module_of_the_package() -> None:
    assert "fused_warmup.sgd" in modules_named_in(pickle.dumps(optimizer()))


EXPORTED = [
    name for name in fused_warmup.__all__ if not inspect.ismodule(getattr(fused_warmup, name))
]


@pytest.mark.parametrize("name", EXPORTED)
def test_the_source_of_what_is_exported_can_be_read(name: str) -> None:
    source = inspect.getsource(getattr(fused_warmup, name))
    assert f"class {name}" in source or f"def {name}(" in source
