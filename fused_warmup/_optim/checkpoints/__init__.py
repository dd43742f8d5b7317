"""What `CountedOptimizer.state_dict` and `load_state_dict` do, in their order.

torch's own are not called: they would cast the count to float32 where a group has ``fused`` set,
move part of a state before the rest is checked, and leave no place between the user's hooks and the
values.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..._groups.attached import without_attached
from ..._step.counters import home, making_state, one_count
from ..late_groups import inherit, shared_schedules
from ..starting import Starting
from ..state import pack
from .copies import Copies
from .loading import StateReader
from .resuming import Source, check_schedules, groups_to_save, keep_tensor_lr, read_groups
from .structure import check_is_mapping, check_structure, read_count

if TYPE_CHECKING:
    from ..counted import CountedOptimizer


def save(optimizer: "CountedOptimizer") -> dict[str, Any]:
    """Return an optimizer's state dict."""
    for pre_hook in optimizer._optimizer_state_dict_pre_hooks.values():
        pre_hook(optimizer)
    optimizer._start_averages()
    state_dict = pack(optimizer.state, optimizer.param_groups)
    state_dict["param_groups"] = groups_to_save(state_dict["param_groups"], optimizer._given)
    for post_hook in optimizer._optimizer_state_dict_post_hooks.values():
        changed = post_hook(optimizer, state_dict)
        state_dict = state_dict if changed is None else changed
    return state_dict


def load(
    optimizer: "CountedOptimizer", state_dict: Mapping[str, Any], schedules: Source | None
) -> None:
    """Load a state dict, or raise and leave everything as it was."""
    check_is_mapping(state_dict)
    state_dict = dict(state_dict)
    for pre_hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        changed = pre_hook(optimizer, state_dict)
        state_dict = state_dict if changed is None else changed
    own_groups, counters = optimizer.param_groups, optimizer._counters
    optimizer._settle_averages()
    with making_state():
        check_structure(state_dict, own_groups)
        state_dict["param_groups"], counts = without_attached(state_dict["param_groups"])
        count = one_count(counts) if counts else read_count(state_dict)
        groups = read_groups(
            state_dict["param_groups"],
            own_groups,
            optimizer._given,
            schedules,
        )
        check_schedules(groups, optimizer.steps_applied if count is None else count)
        copies = Copies()
        reader = StateReader(
            optimizer.state,
            groups,
            counters,
            count,
            copies,
            starting=optimizer._starting,
            keep_all=optimizer._has_graphs(),
        )
        state = reader.read(state_dict)
        keep_tensor_lr(groups, own_groups, copies)
    # Nothing of the above has changed anything, and nothing below can fail.
    copies.make()
    optimizer._starting = Starting(reader.starting)
    if count is not None:
        counters.set(count)
        for p in (p for group in groups for p in group["params"] if p in state):
            state[p]["step"] = counters.of(home(p))  # another, if the old one was cast or emptied
    for group, own in zip(groups, own_groups, strict=True):
        optimizer._two_rates.loaded |= "initial_lr" in group and "initial_lr" not in own
    before = shared_schedules(own_groups)
    optimizer.__setstate__({"state": defaultdict(dict, state), "param_groups": groups})
    inherit(optimizer.defaults, groups, before)
    for post_hook in optimizer._optimizer_load_state_dict_post_hooks.values():
        post_hook(optimizer)
