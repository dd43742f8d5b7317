"""What the groups of a checkpoint mean for an optimizer: whose schedule holds, and which base rate.

Four rules, beside torch's own that a checkpoint's options replace those given in code:

1. A schedule given in code stays, and one warning tells where the checkpoint's is another. Where
   code gives none, the checkpoint's is taken. Where the checkpoint's was restarted, code's is, too.
2. A torch scheduler rewrites ``group["lr"]``, and keeps the rate that it started from in
   ``group["initial_lr"]``: that is the base of a schedule.
3. A tensor lr stays the same tensor. A captured graph reads it.
4. A checkpoint that was made without averages or masters leaves on those that code asks for.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..._advice import advise
from ..._groups import options
from ..._groups.options import RESTARTED, SCHEDULES, START
from ..._groups.values import check_tensor_lr
from ..._tensors.memory import has_memory, has_number, on_host
from ...schedules import Schedule
from ..restarted import moved, was_moved
from .copies import Copies, can_hold

Group = dict[str, Any]
Source = Literal["code", "checkpoint"]
NEEDED = ("lr", "momentum", "dampening", "weight_decay")


class Given:
    """What the state dicts of an optimizer gave to groups with a schedule, as it was given.

    `torch.distributed.checkpoint` reads from its files what a state dict has already, and nothing
    else. With an ``initial_lr`` in there it reads that of a torch scheduler, too. A group that
    comes back with the text of its schedule, the object itself, but with another base has been
    filled from a file of torch.optim.SGD, which has a base and no schedule.
    """

    def __init__(self) -> None:
        self._given: dict[int, tuple[str, Any, int]] = {}

    def give(self, index: int, group: Group) -> None:
        """Put a base into the group of a state dict, and remember it."""
        text, lr = group["schedule"], group["lr"]
        # An earlier state dict may still be filled: what is the same is the same object.
        before, known, version = self._given.get(index, ("", None, 0))
        if isinstance(lr, Tensor):
            if not has_memory(lr):
                check_tensor_lr(lr)
            known = lr.detach().clone()
            version = known._version
        elif not isinstance(known, float) or known != lr:
            known = 1.0 * float(lr)  # no small int, which is one object everywhere
        self._given[index] = before if before == text else text, known, version
        group["schedule"], group["initial_lr"], _ = self._given[index]

    def was_filled(self, index: int, group: Mapping[str, Any]) -> bool:
        """Tell whether a group of a state dict is such a one."""
        text, given, version = self._given.get(index, ("", None, 0))
        base = group["initial_lr"]
        if given is None or group["schedule"] is not text:
            return False
        if isinstance(base, Tensor):
            # Files are read into tensors. Another tensor may be a copy of the one that was given.
            return base is given and base._version != version
        return base is not given


def groups_to_save(groups: Sequence[Mapping[str, Any]], given: Given) -> list[Group]:
    """Return packed groups in the form that checkpoints have: schedules as texts, with a base."""
    saved = options.with_texts(groups)
    for i, group in enumerate(saved):
        if group["schedule"] is not None and "initial_lr" not in group:
            given.give(i, group)
    return saved


def read_groups(
    loaded: Sequence[Mapping[str, Any]],
    own: Sequence[Group],
    given: Given,
    schedules: Source | None,
) -> list[Group]:
    """Return an optimizer's groups with the options that a state dict gives them, checked.

    Args:
        loaded: The groups of the state dict.
        own: The optimizer's, as many.
        given: What its state dicts gave.
        schedules: Whose schedule holds where both have one.

    Raises:
        TypeError: An option of the wrong type.
        ValueError: One that is missing or out of range.
    """
    if schedules is not None and schedules not in get_args(Source):
        raise ValueError(
            f"schedules={schedules!r} is unknown, it must be 'code', 'checkpoint' or None: say "
            "whose schedules to follow"
        )
    copier = _Copier()
    groups = [
        {k: mine["params"] if k == "params" else copier.copy(v) for k, v in group.items()}
        for group, mine in zip(loaded, own, strict=True)
    ]
    for group, mine in zip(groups, own, strict=True):
        for name in NEEDED:
            if name not in group:
                raise ValueError(
                    f"a group of the state dict has no {name!r} but {sorted(map(str, group))}: "
                    "load a checkpoint of this optimizer or of torch.optim.SGD"
                )
        if options.is_lars(group) != options.is_lars(mine):
            raise ValueError(
                f"a group of the state dict is {'one' if options.is_lars(group) else 'none'} of "
                "LARS, which this optimizer is not alike: the momentum of one is not that of the "
                "other, so load what the same class's state_dict() gave"
            )
        if "param_names" in mine:
            group.setdefault("param_names", mine["param_names"])
    from_torch = ["schedule" not in group for group in groups]
    _choose_schedules(groups, own, schedules)
    for group, mine in zip(groups, own, strict=True):
        for name, value in options.DEFAULTS.items():
            group.setdefault(name, mine.get(name, value))
        _keep_what_is_on(group, mine)
    options.settle(groups)
    for i, (group, mine) in enumerate(zip(groups, own, strict=True)):
        if "initial_lr" not in group or "initial_lr" in mine or group["schedule"] is None:
            continue  # a scheduler on top of this optimizer goes on from its rate
        initial = group["initial_lr"]
        if from_torch[i] or given.was_filled(i, loaded[i]):
            group["lr"] = _base(initial, group, mine)
            options.check(group)
        elif not on_host(initial == group["lr"], True):
            continue  # a scheduler on top of a schedule, of which one will be built again
        del group["initial_lr"]
    return groups


def _keep_what_is_on(group: Group, own: Group) -> None:
    """Leave on what code turns on and a checkpoint was made without."""
    if group["ema_decay"] is None:
        group.update({name: own[name] for name in ("ema_decay", "ema_every", "ema_start")})
    group["master_weights"] = group["master_weights"] or own["master_weights"]


def _base(initial: Any, group: Group, own: Group) -> Any:
    """Return the rate that a schedule is a factor of, in a group that a torch scheduler wrote."""
    highest = group.get("max_lr")  # of OneCycleLR, of which ours is a factor, as torch's lr is not
    return highest if highest is not None and highest == own["lr"] else initial


def _choose_schedules(groups: list[Group], own: Sequence[Group], source: Source | None) -> None:
    read: dict[Any, Any] = {}

    def plain(value: Any, name: str) -> Any:
        key = value if isinstance(value, str) else id(value)
        if key not in read:
            read[key] = value, options.plain_schedule(value, name)
        return read[key][1]

    differing = []
    for i, (group, mine) in enumerate(zip(groups, own, strict=True)):
        for name in SCHEDULES:
            given = plain(mine[name], name)
            if name not in group:
                group[name] = given
                continue
            theirs = plain(group[name], name)
            began, begins = mine[START], group.get(START, 0)
            if name in RESTARTED and began != begins and was_moved(theirs, begins):
                given = moved(given, began, begins)
            if source == "checkpoint" or (source is None and given is None):
                group[name] = theirs
                continue
            group[name] = given
            # Plain data that differ may still say the same.
            if source is None and given != theirs and _schedule(given) != _schedule(theirs):
                differing.append((i, name, theirs, given))
    if differing:
        i, name, theirs, given = differing[0]
        more = f", and {len(differing) - 1} more like it," * (len(differing) > 1)
        advise(
            f"the {name} of group {i} in the checkpoint, {_schedule(theirs)}, is not the one given "
            f"in code, {_schedule(given)}, which stays{more}: to go on with the checkpoint's, call "
            "load_state_dict(..., schedules='checkpoint') or, where another loads, set "
            f"group[{name!r}] = None before; schedules='code' keeps the code's without a warning"
        )


def _schedule(plain: Any) -> Schedule | None:
    return None if plain is None else Schedule.from_dict(plain)


def keep_tensor_lr(groups: list[Group], own: Sequence[Group], copies: Copies) -> None:
    """Put each own tensor lr back into its group, to be filled with the loaded rate."""
    filled: dict[int, Tensor] = {}
    for group, mine in zip(groups, own, strict=True):
        kept = mine.get("lr")
        if not (isinstance(kept, Tensor) and can_hold(kept, kept) and has_number(kept)):
            continue
        if not kept.is_floating_point():
            continue
        value = torch.as_tensor(group["lr"], dtype=kept.dtype, device=kept.device)
        value = value.detach().reshape(kept.shape)
        if id(kept) in filled and not on_host((filled[id(kept)] == value).all(), True):
            group["lr"] = value.clone()  # groups that shared a tensor do not share a rate now
            continue
        filled[id(kept)] = value
        group["lr"] = copies.into(kept, value)


class _Copier:
    """Copies options, tensors without their history; one that groups share stays shared."""

    def __init__(self) -> None:
        self._memo: dict[int, Any] = {}

    def copy(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in self._memo:
                twin = value.detach().clone().requires_grad_(value.requires_grad)
                self._memo[id(value)] = twin
            return self._memo[id(value)]
        return copy.deepcopy(value, self._memo)


def check_schedules(groups: Sequence[Mapping[str, Any]], count: int) -> None:
    """Raise where a schedule has no value at the last step of ``count`` or at the next."""
    distinct = {id(group[name]): group[name] for group in groups for name in SCHEDULES}
    for plain in distinct.values():
        if plain is not None:
            Schedule.from_dict(plain)([max(count - 1, 0), count])
