"""Random changes between steps: what a step remembers gives what one that reads all anew gives."""

import collections
import copy
import random
from collections.abc import Callable
from typing import Any

import torch
from support import WHOLE, copies, models, same_bits, set_grads, tensors_of
from torch import Tensor
from torch.autograd import forward_ad
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fused_warmup import SGD, clip_grad_norm_, linear_warmup

N_SEEDS = 300 if WHOLE else 12


class Anew(SGD):
    """Remembers nothing of the step before."""

    def step(self, closure: Any = None) -> Any:
        self._forget_plan()
        return super().step(closure)


class Training:
    def __init__(self, kind: type[SGD]) -> None:
        self.params = models((3,), (2, 2), (5,), (1,))
        groups = [
            {"params": self.params[:2]},
            {"params": self.params[2:3], "weight_decay": 0.125, "ema_decay": 0.5},
        ]
        self.opt = kind(groups, lr=0.5, momentum=0.9, schedule=linear_warmup(16))
        self.rate = torch.tensor(0.25)
        self.hooks: list[Any] = []
        self.steps = 0

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            set_grads(self.params, self.steps)
            self.steps += 1
            self.opt.step()

    def group(self, draw: random.Random) -> dict[str, Any]:
        return draw.choice(self.opt.param_groups)

    def entry(self, draw: random.Random) -> dict[str, Any]:
        return self.opt.state[draw.choice(self.opt.param_groups[0]["params"])]

    def results(self) -> list[Tensor]:
        return copies([*self.params, *tensors_of(self.opt)])


VALUES: dict[str, list[Any]] = {
    "lr": [0.5, 0.25, 1, 0.0],
    "momentum": [0.9, 0.5],
    "weight_decay": [0.0, 0.125, 1],
    "dampening": [0.0, 0.5],
    "nesterov": [False],
    "maximize": [True, False],
    "ema_decay": [None, 0.5, 0.25],
    "schedule": [None, linear_warmup(8).to_dict()],
}


def drawn(draw: random.Random) -> dict[str, Any]:
    key = draw.choice(list(VALUES))
    return {key: draw.choice(VALUES[key])}


def new_kind(t: Training, draw: random.Random) -> None:
    kinds: list[Any] = [dict, collections.OrderedDict, type("Group", (dict,), {})]
    i = draw.randrange(len(t.opt.param_groups))
    t.opt.param_groups[i] = draw.choice(kinds)(t.opt.param_groups[i], **drawn(draw))


def without_then_with(t: Training, draw: random.Random) -> None:
    group = t.opt.param_groups.pop()
    t.step()
    t.opt.param_groups.append(group)


def emptied_and_filled(t: Training, draw: random.Random) -> None:
    group = t.group(draw)
    held = {**group, **drawn(draw)}
    group.clear()
    group.update(held)


def scaled(t: Training, draw: random.Random) -> None:
    t.opt.grad_scale, t.opt.found_inf = torch.tensor(2.0), torch.tensor(draw.choice([0.0, 1.0]))
    t.step()
    del t.opt.grad_scale, t.opt.found_inf


def copied(t: Training, draw: random.Random) -> None:
    if not t.hooks:
        t.opt, t.params, t.rate = copy.deepcopy((t.opt, t.params, t.rate))


def within_forward_ad(t: Training, draw: random.Random) -> None:
    with forward_ad.dual_level():
        t.step()


def halve(t: Training) -> Callable[..., None]:
    def hook(opt: Any, *_: Any) -> None:
        if opt is t.opt:
            for p in t.params:
                p.grad.mul_(0.5)  # type: ignore[union-attr]

    return hook


CHANGES: dict[str, Callable[[Training, random.Random], object]] = {
    "updated": lambda t, draw: t.group(draw).update(drawn(draw)),
    "or-ed": lambda t, draw: t.group(draw).__ior__(drawn(draw)),
    "initialized": lambda t, draw: t.group(draw).__init__(drawn(draw)),  # type: ignore[misc]
    "popped and set": lambda t, draw: [
        (t.group(random.Random(1)).pop(k), t.group(random.Random(1)).setdefault(k, v))
        for k, v in drawn(draw).items()
    ],
    "emptied and filled": emptied_and_filled,
    "another kind": new_kind,
    "another list": lambda t, draw: setattr(t.opt, "param_groups", [*t.opt.param_groups]),
    "by __dict__": lambda t, draw: vars(t.opt).update(
        param_groups=[{**group, **drawn(draw)} for group in t.opt.param_groups]
    ),
    "another __dict__": lambda t, draw: setattr(t.opt, "__dict__", {**vars(t.opt)}),
    "reversed": lambda t, draw: t.opt.param_groups.reverse(),
    "a group less": without_then_with,
    "a parameter moved": lambda t, draw: t.opt.param_groups[-1]["params"].append(
        t.opt.param_groups[0]["params"].pop()
    ),
    "parameters reversed": lambda t, draw: t.group(draw)["params"].reverse(),
    "other lists": lambda t, draw: [g.update(params=[*g["params"]]) for g in t.opt.param_groups],
    "a momentum less": lambda t, draw: t.entry(draw).pop("momentum_buffer", None),
    "another momentum": lambda t, draw: t.entry(draw).update(momentum_buffer=None),
    "an entry emptied": lambda t, draw: t.entry(draw).clear(),
    "an entry read": lambda t, draw: t.opt.state[torch.zeros(1)],
    "another state": lambda t, draw: setattr(t.opt, "state", t.opt.state.copy()),
    "no state": lambda t, draw: t.opt.state.clear(),
    "a tensor": lambda t, draw: t.group(draw).update(lr=t.rate),
    "the tensor moves": lambda t, draw: t.rate.mul_(0.5),
    "hook": lambda t, draw: t.hooks.append(t.opt.register_step_pre_hook(halve(t))),
    "global hook": lambda t, draw: t.hooks.append(register_optimizer_step_pre_hook(halve(t))),
    "no hook": lambda t, draw: t.hooks and t.hooks.pop(0).remove(),
    "scaled": scaled,
    "clipped": lambda t, draw: clip_grad_norm_(t.opt, 0.5),
    "write_grads": lambda t, draw: setattr(t.opt, "write_grads", draw.random() < 0.5),
    "loaded": lambda t, draw: t.opt.load_state_dict(copy.deepcopy(t.opt.state_dict())),
    "copied": copied,
    "tangents": within_forward_ad,
}


def test_random_changes_between_steps() -> None:
    for seed in range(N_SEEDS):
        draw = random.Random(seed)
        pair = [Training(SGD), Training(Anew)]
        done: list[Any] = [seed]
        try:
            for t in pair:
                t.step(3)
            for _ in range(6):
                done.append(draw.choice(list(CHANGES)))
                number, steps = draw.random(), draw.choice((1, 2, 3))
                raised = []
                for t in pair:
                    try:
                        CHANGES[done[-1]](t, random.Random(number))
                        t.step(steps)
                        raised.append(None)
                    except Exception as error:
                        raised.append(f"{type(error).__name__}: {error}")
                found, expected = (t.results() for t in pair)
                assert raised[0] == raised[1], done
                assert len(found) == len(expected), done
                assert all(map(same_bits, found, expected)), done
        finally:
            for t in pair:
                for hook in t.hooks:
                    hook.remove()


def test_a_group_may_be_given_a_class_that_answers_otherwise() -> None:
    class Group(dict):  # type: ignore[type-arg]
        pass

    class Half(dict):  # type: ignore[type-arg]
        def __getitem__(self, key: str) -> Any:
            value = super().__getitem__(key)
            return value / 2 if key == "weight_decay" else value

    pair = [Training(SGD), Training(Anew)]

    def both(change: Callable[[Any], object]) -> None:
        for t in pair:
            change(t.opt.param_groups)
            t.step(2)
        assert all(map(same_bits, pair[0].results(), pair[1].results()))

    both(lambda groups: groups.__setitem__(0, Group(groups[0], weight_decay=0.5)))
    both(lambda groups: setattr(groups[0], "__class__", Half))
    both(lambda groups: setattr(groups[0], "__class__", Group))
    Group.__getitem__ = lambda self, key: self.get(key) if key != "lr" else 0.125  # type: ignore
    both(lambda groups: None)


class Options:
    """What a group may be the attributes of."""

    def __init__(self) -> None:  # Python 3.13 makes room in the object for those that stand here
        self.params = self.lr = self.momentum = self.dampening = self.weight_decay = None
        self.nesterov = self.maximize = self.foreach = self.differentiable = self.fused = None
        self.schedule = self.momentum_schedule = self.schedule_start = self.master_weights = None
        self.ema_decay = self.ema_schedule = self.ema_every = self.ema_start = None


def set_decay(options: Any, by: float) -> None:
    options.weight_decay = by


def test_a_group_may_be_an_objects_attributes() -> None:
    for _ in range(100):  # until Python knows where in the object the attribute lies
        set_decay(Options(), 0.0)
    pair = [(Training(kind), Options()) for kind in (SGD, Anew)]
    for t, options in pair:
        for key, value in t.opt.param_groups[0].items():
            setattr(options, key, value)
        t.opt.param_groups[0] = vars(options)
    for i in range(4):
        for t, options in pair:
            set_decay(options, 0.125 * i)
            t.step(2)
        assert all(map(same_bits, pair[0][0].results(), pair[1][0].results()))
