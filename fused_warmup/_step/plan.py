"""From an optimizer's groups to the launches of a step.

`Plan` sorts parameters by backend and device, one part each, and is kept until something that it
relied on has changed. A step asks every part to ``prepare``, which reads and checks but touches
nothing, and then launches them all; so a step that cannot be done leaves everything as it was.
Where all parts are native, one native call does both (csrc/host/host_step.cpp).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.parameter import is_lazy

from .. import _backend as kernels
from .._backend.native import load_native
from .._backend.reference import FIRST_STEP_BEFORE, put_gradient, unscaled
from .._groups import options
from .._groups.values import check_scalar
from .._tensors.shards import is_flat_shard, is_sharded
from . import routing
from .counters import Counters, State
from .norms import Norms
from .overlaps import overlapping, readers, span_of
from .places import Place, places_of, written_by
from .sharded import ShardedPlan
from .tracks import Tracks
from .writable import check_writable

Groups = Sequence[Mapping[str, Any]]


class Plan:
    """One optimizer's step: its parts and what they were built from.

    Args:
        state: The optimizer's state, complete for every parameter that has a gradient.
        groups: Its parameter groups, their options checked.
        counters: Its step counters.
        lr: The float64 tensor of the last rates, one element a group, for each device.
        backend: The backend that the user asked for, or None.
        counts: Whether a step advances the counters.
        measures: Whether the update needs norms, as LARS's does.
        waiting: Parameters without a gradient that need another plan once they have one.
    """

    def __init__(
        self,
        state: State,
        groups: Groups,
        counters: Counters,
        lr: Mapping[torch.device, Tensor],
        backend: str | None,
        counts: bool = True,
        measures: bool = False,
        waiting: Sequence[Tensor] = (),
    ) -> None:
        native, _ = load_native()
        self._backend = backend
        self._counts = counts
        self._n_groups = len(groups)
        # Without the extension nothing notices changes, and a plan serves one step.
        self._watch = native.Watch(state, groups) if native else None
        self._is_new = True
        # A frozen parameter has no state, a lazy module's no shape. With a gradient it needs
        # another plan.
        everything = [(p, i) for i, group in enumerate(groups) for p in group["params"]]
        left_out = set(map(id, waiting))
        members = [
            (p, i) for p, i in everything if p in state and not is_lazy(p) and id(p) not in left_out
        ]
        own = {p for p, _ in members}
        self._frozen = [p for p, _ in everything if p not in own]
        self._flat = any(is_flat_shard(p) for group in groups for p in group["params"])
        tracks = Tracks(groups)

        self._norms = Norms([p for p, _ in members]) if measures else None
        rows: dict[Place, list[int]] = {}

        parts: dict[Place, list[tuple[Tensor, int]]] = {}
        marks: dict[Place, list[Tensor | None]] = {}
        places, any_shared = places_of(members, state, groups, backend)
        self._members, self._members_places = members, places
        # Else the native parts themselves see where it is not so any more.
        self._depends_on_memory = any_shared or len(set(places)) > 1
        seen: set[int] = set()
        for row, ((p, index), place) in enumerate(zip(members, places, strict=True)):
            rows.setdefault(place, []).append(row)
            parts.setdefault(place, []).append((p, index))
            mark = state[p].get("first_step")
            if mark is not None and id(p) in seen:  # twice in a group: the second is not the first
                mark = torch.full_like(mark, FIRST_STEP_BEFORE)
            marks.setdefault(place, []).append(mark)
            seen.add(id(p))

        self.parts: list[Any] = []
        self._places: list[tuple[str, torch.device, list[tuple[Tensor, int]]]] = []
        for place in sorted(parts, key=lambda place: place[:2]):
            part, device = parts[place], place.device
            norms = self._norms and self._norms.of_part([p for p, _ in part], rows[place])
            self._places.append((place.backend, device, part))
            self.parts.append(
                _make_plan(
                    place.backend,
                    params=[p for p, _ in part],
                    momentum_buffers=[state[p].get("momentum_buffer") for p, _ in part],
                    first_steps=marks[place],
                    group_of=[index for _, index in part],
                    schedules=tracks.schedules,
                    schedule_of=tracks.lr,
                    momentum_schedule_of=tracks.momentum,
                    t=counters.of(device),
                    lr=lr[device],
                    norms=norms,
                    **_extras(state, part, groups, tracks),
                )
            )
        self.host_step = None
        if native and not self._flat and all(isinstance(p, native.HostPlan) for p in self.parts):
            self.host_step = native.HostStep(self._watch, self._frozen, self.parts, counts)

    def run(
        self,
        state: State,
        groups: Groups,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        write_grads: bool,
    ) -> bool:
        """Do the step, if everything is as it was when the plan was made. The path of most steps.

        Returns:
            Whether the step was done (or skipped by ``found_inf``). False: nothing was touched.
        """
        if forward_ad._current_level >= 0:  # tangents, which torch's operations move
            return False
        if self.host_step is not None:
            step = (state, groups, grad_scale, found_inf, write_grads)
            return self.host_step.run(*step)  # type: ignore[no-any-return]
        if not self._fits(state, groups, grad_scale):
            return False
        for part in self.parts:
            if not part.prepare(groups, None, grad_scale, found_inf, write_grads):
                return False
        self._launch()
        return True

    def run_carefully(
        self,
        state: State,
        groups: Groups,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        write_grads: bool,
    ) -> bool:
        """Do the step as `run` does, after bringing gradients and scalars into the parts' form.

        Gradients whose strides are not the parameter's are copied into them, and scalars go to the
        device of each part.
        """
        if not self._fits(state, groups, grad_scale):
            return False
        for group in groups:
            options.check(group)
        if self._depends_on_memory:
            places, _ = places_of(self._members, state, groups, self._backend)
            if places != self._members_places:
                return False
        copies: list[tuple[Tensor, Tensor, Tensor]] = []
        unscales = grad_scale is not None and write_grads
        shared = _shared_gradients(groups) if unscales else []
        for (name, device, members), part in zip(self._places, self.parts, strict=True):
            grads = []
            for p, index in members:
                grad = p.grad
                if grad is not None:
                    check_writable(p, state[p], groups[index], unscales)
                as_it_was = self._depends_on_memory  # found above
                if not as_it_was and routing.backend_of(p, groups[index], self._backend) != name:
                    return False
                if grad is not None:
                    routing.check_gradient(p, grad, groups[index], name)
                    if name != "reference":
                        grad = routing.laid_out_as(p, grad, copies)
                grads.append(grad)
            by_autograd = name == "reference"
            plain = [routing.plain_options(group, device, by_autograd) for group in groups]
            scalars = _on("grad_scale", grad_scale, device), _on("found_inf", found_inf, device)
            if not part.prepare(plain, grads, *scalars, write_grads and not shared):
                return False
        # A copy is of memory that no part looks at.
        originals = [] if self._depends_on_memory else [span_of(grad) for _, grad, _ in copies]
        if originals and readers(written_by(self._members, state), originals):
            return False
        if self._launch() and unscales:
            for p, grad, copy in copies:
                if not shared:
                    put_gradient(p, grad, copy)
            values = [unscaled(grad, grad_scale, found_inf) for _, grad in shared]
            for (p, grad), value in zip(shared, values, strict=True):
                put_gradient(p, grad, value)
        return True

    def _fits(self, state: State, groups: Groups, grad_scale: Tensor | None) -> bool:
        if self._flat and grad_scale is not None:
            raise RuntimeError(
                "grad_scale is set and parameters are flat shards of FSDP1, where each rank's "
                "scaler knows of its own overflows only and could skip alone: call "
                "scaler.unscale_(optimizer) before scaler.step, or build SGD with unscale=False"
            )
        for p in self._frozen:
            if p.grad is not None:
                return False
        if self._watch is None:
            is_new, self._is_new = self._is_new, False
            return is_new
        return self._watch.unchanged(state, groups)  # type: ignore[no-any-return]

    @property
    def is_captured(self) -> bool:
        """Whether a CUDA graph holds a launch of this plan, which must then outlive the graph."""
        return any(getattr(part, "n_captured", 0) for part in self.parts)

    def update_captured(self, groups: Groups) -> None:
        """Give the groups' present options to launches that CUDA graphs hold."""
        own = groups[: self._n_groups]  # groups that were added later are not in the graph
        for (_, device, _), part in zip(self._places, self.parts, strict=True):
            if not getattr(part, "n_captured", 0):
                continue
            plain = [routing.plain_options(group, device) for group in own]
            if part.update_captured(plain) is False:
                raise RuntimeError(
                    f"the options of groups {own} cannot go into a captured step on {device}: give "
                    "each lr as a number or as a tensor of a floating dtype"
                )

    def _launch(self) -> bool:
        """Launch what is prepared; whether anything was that is not known to be skipped."""
        # A step without any gradient is no step; one that has some counts on every device.
        if not any(part.active for part in self.parts):
            return False
        if self._norms is not None and self._norms.are_split:
            self._norms.clear()
            for part in self.parts:
                part.measure()
            self._norms.add_other_ranks()
        last = {device: part for (_, device, _), part in zip(self._places, self.parts, strict=True)}
        launched = False
        for (_, device, _), part in zip(self._places, self.parts, strict=True):
            launched |= part.launch(self._counts and part is last[device])
        return launched


def _extras(
    state: State, members: Sequence[tuple[Tensor, int]], groups: Groups, tracks: Tracks
) -> dict[str, Any]:
    """Return what plans are given of averages and masters; nothing where nobody has any."""
    emas = [
        None if groups[index]["ema_decay"] is None else state[p].get("ema") for p, index in members
    ]
    masters = [state[p].get("master_param") for p, _ in members]
    if all(extra is None for extra in (*emas, *masters)):
        return {}
    return {"emas": emas, "masters": masters, "ema_schedule_of": tracks.ema}


def _shared_gradients(groups: Groups) -> list[tuple[Tensor, Tensor]]:
    """Return all parameters with their gradients, each once, if any two of these share memory.

    A step that leaves unscaled gradients behind would unscale them twice.
    """
    params = {id(p): p for group in groups for p in group["params"] if p.grad is not None}
    spans = [(span_of(p.grad),) for p in params.values()]
    if next(iter(overlapping(spans)), None) is None:
        return []
    by_memory = {
        (span or id(p), p.grad.stride()): p
        for p, (span,) in zip(params.values(), spans, strict=True)
    }
    return [(p, p.grad) for p in by_memory.values()]


def _make_plan(name: str, params: list[Tensor], **rest: Any) -> Any:
    make = partial(kernels.make_plan, name)
    if name != "reference" and any(map(is_sharded, params)):
        return ShardedPlan(make, params, **rest)
    return make(params=params, **rest)


def _on(name: str, scalar: Tensor | float | None, device: torch.device) -> Tensor | None:
    """Return a scalar of AMP's in the one form that kernels read."""
    if scalar is None:
        return None
    if not isinstance(scalar, Tensor):  # a user may set optimizer.grad_scale to a number
        check_scalar(name, scalar)
        return torch.tensor(scalar, dtype=torch.float32, device=device)
    number = routing.number_in(name, scalar)
    return number.to(device=device, dtype=torch.float32, non_blocking=True)
