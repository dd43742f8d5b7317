"""Cases: one tensor changes in one way, between steps or where a step lets the user's code run.

The verdict: the step's result is torch.optim.SGD's under the same change; or the step raises an
error that names what is wrong, changes nothing, and once a sane tensor is back, goes on as if
nothing had been.
"""

from functools import partial
from typing import Any

import numpy
import torch
from torch import Tensor

from .subjects import (
    SANITIZED,
    TARGETS,
    Ours,
    Subject,
    Target,
    Torchs,
    differences,
    image,
    images,
    same_as_torch,
)
from .ways import NO_MATTER, TORCH_DIES, Way, is_of_dtype, ways_for

WRONG = (TypeError, ValueError, RuntimeError, KeyError)
"""What a step may raise for a wrong tensor. KeyError: where an option is gone, as torch does."""


RESTARTS = {"set_nothing", "resize_0", "data_empty", "becomes_meta", "becomes_empty"}
"""A momentum that holds nothing may be taken for none."""

ROUGH = {"data_reinterpreted", "becomes_sparse", "becomes_wrapper"}
"""torch rounds at other places then."""

INTEGERS = (torch.int8, torch.int32, torch.int64, torch.bool)
"""As gradients torch takes them at some steps only."""


class NotApplicable(Exception):
    """torch itself does not let this be done to such a tensor."""


class Trial:
    """One change of one target at one moment, and the judgement of the step that follows."""

    def __init__(self, setting: str, target: Target, way: Way, moment: str) -> None:
        self.setting, self.target, self.way, self.moment = setting, target, way, moment
        self.before: dict[str, Any] = {}  # all but the target, when the step begins
        self.number: float | None = None  # what the target's number has become
        self.is_number = False  # or the target is gone

    def run(self) -> None:
        """Do it.

        Raises:
            NotApplicable: There is no such target here, or it cannot be changed so.
            AssertionError: The step was neither right nor refused well.
        """
        ours, unchanged = Ours(self.setting), Torchs(self.setting)
        for subject in (ours, unchanged):
            self._start(subject)
        original = _held(self.target, ours)
        if not isinstance(original, Tensor):
            raise NotApplicable
        sane = original.detach().clone(), type(original), original.requires_grad
        versions = [p._version for p in ours.params]
        error = self._attempt(ours)
        if error is None:
            self._judge_result(ours, unchanged)
            told = [p._version > v for p, v in zip(ours.params, versions, strict=True)]
            moved = self.way.name != "swap" and not unchanged.skips
            assert not moved or all(told), f"autograd was told of {told} alone"
            return
        self._judge_refusal(error, ours)
        self._restore(ours, original, *sane)
        self._go_on(error, ours, unchanged)

    def _start(self, subject: Subject) -> None:
        """Bring a subject to where its next step is of interest."""
        if self.moment != "first":
            subject.train(3, leave_out=subject.params[-1] if self.moment == "late" else None)
        subject.set_grads()

    def change(self, subject: Subject) -> None:
        """Change the target, and note all else as it is then."""
        try:
            self.way.apply(self.target, subject)
        except Exception as error:
            raise NotApplicable(str(error)) from error
        if self.moment == "new_gradients":
            subject.set_grads()
        if isinstance(subject, Ours):
            held = _held(self.target, subject)
            self.number = _number(held)
            self.is_number = held is None or self.number is not None
            self.before = images(subject, without=held)

    def _attempt(self, subject: Subject) -> Exception | None:
        """Change the target and step; return what the step raised."""
        try:
            if self.moment == "closure":
                subject.step(lambda: (self.change(subject), 0.0)[1])
            elif self.moment == "hook" and isinstance(subject, Ours):
                handle = subject.opt.register_step_pre_hook(lambda *_: self.change(subject))
                try:
                    subject.step()
                finally:
                    handle.remove()
            else:
                self.change(subject)
                subject.step()
        except NotApplicable:
            raise
        except Exception as error:
            return error
        return None

    def _twins(self, unchanged: Torchs) -> list[Torchs]:
        """Return torch's optimizer after the same change and a step, as often as it may have come.

        An empty list: torch gives no answer to compare with.
        """
        if not self.target.in_torch:
            if self.is_number:
                unchanged.follow(self.target.name, self.number)
            unchanged.step()
            return [unchanged]
        assert self.way.name not in TORCH_DIES, "a step without the memory that it needs"
        if self.way.name in NO_MATTER and self.target.name != "grad":
            return []
        changed = Torchs(self.setting)
        self._start(changed)
        error = self._attempt(changed)
        twins = [changed] if error is None else []
        if self.target.name == "momentum_buffer" and self.way.name in (*RESTARTS, "becomes_sparse"):
            if self.way.name in RESTARTS:
                unchanged.opt.state[unchanged.params[-1]]["momentum_buffer"].zero_()
            unchanged.step()
            twins.append(unchanged)
        dtype = is_of_dtype(self.way.name)
        if changed.all_on and self.target.name == "grad":
            if dtype in INTEGERS or self.way.name == "becomes_wrapper":
                return []  # what has been unscaled by hand is no such gradient any more
        elif self.way.name == "becomes_wrapper" and self.moment in ("first", "late"):
            return []  # torch makes such a gradient the momentum
        elif self.target.name == "grad" and dtype in INTEGERS:
            return twins
        assert twins, f"torch raises {error!r}, ours nothing"
        return twins

    def _judge_result(self, ours: Ours, unchanged: Torchs) -> None:
        if self._is_another_story(ours):
            return
        twins = self._twins(unchanged)
        rough = is_of_dtype(self.way.name) is not None or self.way.name in ROUGH
        for step in range(3):
            wrong = [same_as_torch(ours, twin, rough) for twin in twins]
            assert not wrong or not all(wrong), f"{step} steps later, {wrong[0]}"
            twins = [twin for twin, each in zip(twins, wrong, strict=True) if not each]
            count = ours.opt.steps_applied
            assert all(count == twin.t for twin in twins), f"counted {count}"
            try:
                unchanged.set_grads()
                for subject in (ours, *twins):
                    for p, q in zip(subject.params, unchanged.params, strict=True):
                        p.grad = q.grad.to(p.dtype, copy=True)
                for twin in twins:
                    twin.step()
            except RuntimeError:
                return  # no gradient fits what the tensor has become, or torch cannot go on
            ours.step()

    def _is_another_story(self, ours: Ours) -> bool:
        """Whether a count or a mark says what cannot be: then only the process has to live."""
        if self.number is None:
            return False
        was = ours.t - 1
        if self.target.name in ("count", "step"):
            return self.number != was
        return self.target.name == "first_step" and not -1 <= self.number <= was

    def _judge_refusal(self, error: Exception, ours: Ours) -> None:
        """Check that an error says what is wrong, is called for, and came before all moved."""
        assert not self.way.keeps, f"refused without need: {error!r}"
        assert isinstance(error, WRONG), repr(error)
        assert any(word in str(error) for word in self.target.words), f"not named: {error!r}"
        assert "report this" not in str(error), repr(error)
        now = images(ours)
        own = f" {len(ours.params) - 1}"  # what is made anew for another shape is the target's own
        before = {
            name: value
            for name, value in self.before.items()
            if self.target.name != "param" or not name.endswith(own)
        }
        wrong = differences({name: now.get(name) for name in before}, before)
        assert not wrong, f"refused ({error!r}), and yet {wrong}"

    def _restore(
        self, ours: Ours, original: Any, values: Tensor, of_class: type, by_graph: bool
    ) -> None:
        with torch.no_grad():
            original.__class__ = of_class
            original.requires_grad_(False)
            try:
                original.data = values
            except RuntimeError:
                torch.utils.swap_tensors(original, values)
            original.requires_grad_(by_graph)
        if self.target.set is not None:
            self.target.set(ours, original)

    def _go_on(self, error: Exception, ours: Ours, unchanged: Torchs) -> None:
        for _ in range(3):
            unchanged.set_grads()
            for p, q in zip(ours.params, unchanged.params, strict=True):
                p.grad = q.grad.clone()
            ours.step()
            unchanged.step()
            wrong = same_as_torch(ours, unchanged)
            assert not wrong, f"after the refusal ({error!r}), {wrong}"
            assert ours.opt.steps_applied == unchanged.t, f"{error!r} was counted"


def _held(target: Target, subject: Subject) -> Any:
    try:
        return target.get(subject)
    except (AttributeError, KeyError):
        return None


def _number(value: Any) -> float | None:
    """Return the number that stands in a target's place, if it is one."""
    if isinstance(value, numpy.ndarray) and value.size == 1:
        return float(value)
    if isinstance(value, Tensor):
        value = image(value)
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
            return None
    return float(value) if isinstance(value, Tensor | int | float | numpy.number) else None


def moments_for(setting: str, target: Target, i: int) -> tuple[str, ...]:
    """Return when to change a target; ``i`` shares out among the ways what not all need try."""
    within = ("closure", "hook")[i % 2]
    if SANITIZED:
        return ("first", "warm", "late") if target.in_torch else ("first", "warm")
    if setting == "reference":
        return ("warm", within)
    if target.name == "param":
        return ("first", "warm", "late", "new_gradients", within)
    if target.in_torch or target.name == "first_step":
        return ("first", "warm", "late", within)
    return ("first", "warm", within)


def settings_for(target: Target) -> list[str]:
    settings = ["everything"] if SANITIZED else ["everything", "reference"]
    if target.in_torch:
        settings.append("plain")
    return [*settings, "still"] if target.name == "param" else settings


def judge(setting: str, target: Target, way: Way, i: int) -> None:
    """Try a way at all its moments."""
    failures = []
    for moment in moments_for(setting, target, i):
        try:
            Trial(setting, target, way, moment).run()
        except NotApplicable:
            continue
        except AssertionError as error:
            failures.append(f"{moment}: {error}")
    assert not failures, "\n".join(failures)


CASES = {
    f"{target.name}-{way.name}-{setting}": partial(judge, setting, target, way, i)
    for target in TARGETS
    for i, way in enumerate(ways_for(target))
    for setting in settings_for(target)
}


def warm_up() -> None:
    """Let torch import what it imports late."""
    for setting in ("everything", "reference", "plain"):
        for subject in (Ours(setting), Torchs(setting)):
            subject.train(2)
    CASES["param-data-plain"]()
