"""Attached schedules beside torch's scheduler, for torch's optimizers."""

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from support.attached import OVERFLOWS, STEPS, Make, Training
from torch._dynamo.testing import CompileCounter

optim = torch.optim
MAKERS = {
    "AdamW-fused": partial(optim.AdamW, fused=True),
    "AdamW-foreach-capturable": partial(optim.AdamW, foreach=True, capturable=True),
    "AdamW": optim.AdamW,
    "Adam": optim.Adam,
    "RMSprop": partial(optim.RMSprop, momentum=0.9),
    "NAdam": optim.NAdam,
    "Adagrad": optim.Adagrad,
    "Muon": optim.Muon,
    "SGD": partial(optim.SGD, momentum=0.9),
    "SGD-fused": partial(optim.SGD, momentum=0.9, fused=True),
}
if torch.__version__.startswith("2.11."):  # its Adagrad makes no state for a group that comes later
    del MAKERS["Adagrad"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Muon's bfloat16 products of a few elements wait for each other's threads otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def capturable_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch's capturable forms run on the CPU, where they compute the same."""
    adam = sys.modules["torch.optim.adam"]
    monkeypatch.setattr(adam, "_get_capturable_supported_devices", lambda **_: ["cpu"])


def assert_equal(ours: Training, torchs: Training) -> None:
    assert len(ours.applied) == len(torchs.applied) == STEPS
    # Two ways to the same float64: a few ulps of it. Of a capturable optimizer the rate is a
    # tensor here and a number there, which torch's own loops take to other roundings of float32.
    torch.testing.assert_close(ours.applied, torchs.applied, rtol=1e-12, atol=1e-15)
    for mine, theirs in zip(ours.weights, torchs.weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("capturable_anywhere")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_trains_as_with_torchs_scheduler(make: Make) -> None:
    ours = Training(make, attached=True).run(resume_at=37)
    assert_equal(ours, Training(make, attached=False).run())
    assert ours.handle is not None
    assert ours.handle.steps_applied == STEPS == len(ours.inputs) - len(OVERFLOWS)


@pytest.mark.parametrize("name", ["AdamW-fused", "RMSprop"])
def test_resumes_bit_for_bit(name: str) -> None:
    whole = Training(MAKERS[name], attached=True).run(n=50)
    resumed = Training(MAKERS[name], attached=True).run(n=50, resume_at=37)
    assert resumed.applied == whole.applied
    for mine, theirs in zip(resumed.weights, whole.weights, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_compiled_step_is_compiled_once_for_each_set_of_groups() -> None:
    def make(params: Any, lr: float) -> optim.Optimizer:
        return optim.AdamW(params, lr=torch.tensor(lr, dtype=torch.float64))

    counter = CompileCounter()
    ours = Training(make, attached=True, compiled=counter).run(resume_at=37)
    assert_equal(ours, Training(optim.AdamW, attached=False).run())
    # Each optimizer's step with the state that its first step makes, and with a group that comes.
    assert counter.frame_count <= 6
