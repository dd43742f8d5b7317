"""Schedules for the momentum: what moves against a cycle of the learning rate.

They are factors on ``group["momentum"]``, given to `SGD` as ``momentum_schedule``.
"""

from typing import Literal

from .checks import finite, steps_of
from .cycles import cycle_lengths, triangles
from .policies import cycle_through
from .schedule import Schedule


def one_cycle_momentum(
    steps: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    low: float = 0.85 / 0.95,
    three_phase: bool = False,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Fall while `one_cycle` rises, and come back while it falls.

    From 1 at ``t = 0`` to ``low`` at ``t = pct_start * steps - 1``, then to 1 at ``t = steps - 1``,
    where it stays; with ``three_phase`` it is back at ``t = 2 * pct_start * steps - 2``. The base
    momentum is the highest, max_momentum in torch. The first three values with
    ``steps=10, anneal_strategy="linear", low=0.5`` are 1, 0.75, 0.5.

    Args:
        steps: Length in steps, at least 2; that of `one_cycle`, as are the options of its names.
        pct_start: Share of the steps spent falling, in [0, 1]; at most 0.5 with ``three_phase``.
        anneal_strategy: ``"cos"`` for half cosines, ``"linear"`` for straight lines.
        low: Factor where the learning rate is highest, in [0, 1]: base_momentum / max_momentum.
        three_phase: Come back in as many steps as it fell, and stay.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A value out of its range; an unknown strategy.

    Source:
        torch's OneCycleLR, whose base_momentum and max_momentum are 0.85 and 0.95.

    Example:
        >>> import torch, fused_warmup
        >>> from fused_warmup.schedules import one_cycle
        >>> opt = fused_warmup.SGD(
        ...     [torch.zeros(1, requires_grad=True)], lr=0.5, momentum=0.95,
        ...     schedule=one_cycle(10), momentum_schedule=one_cycle_momentum(10),
        ... )
        >>> [round(0.95 * factor, 4) for factor in one_cycle_momentum(10)([0, 1, 2, 9])]
        [0.95, 0.9, 0.85, 0.95]
    """
    length = steps_of(steps, epochs, steps_per_epoch, minimum=2)
    low = finite("low", low, 0.0, 1.0)
    heights = [1.0, low, 1.0, 1.0] if three_phase else [1.0, low, 1.0]
    return cycle_through(heights, length, pct_start, anneal_strategy)


def cyclic_momentum(
    steps_up: int | None = None,
    steps_down: int | None = None,
    low: float = 0.8 / 0.9,
    *,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: float = 1.0,
    epochs_up: float | None = None,
    epochs_down: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Fall from 1 to ``low`` while `cyclic` rises, and come back while it falls.

    ``1 - (1 - low) * triangle(t) * amplitude``, with the triangle and amplitude of `cyclic`; the
    first three values with ``steps_up=4, low=0`` are 1, 0.75, 0.5. The base momentum is the
    highest, max_momentum in torch.

    Args:
        steps_up: Steps in which `cyclic` rises and this falls.
        steps_down: Steps of the way back; as many as up if no length down is given.
        low: Factor at the bottom of the first cycle, in [0, 1]: base_momentum / max_momentum.
        mode: How the amplitude changes.
        gamma: Decay of the amplitude per step in mode ``"exp_range"``, in (0, 1].
        epochs_up: The rise of `cyclic` in epochs instead, rounded to the nearest step.
        epochs_down: Its fall in epochs.
        steps_per_epoch: Steps per epoch, with ``epochs_up``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A value out of its range; an unknown mode.

    Source:
        torch's CyclicLR, whose base_momentum and max_momentum are 0.8 and 0.9.

    Example:
        >>> cyclic_momentum(2, low=0.5)(range(6))
        [1.0, 0.75, 0.5, 0.75, 1.0, 0.75]
    """
    up, down = cycle_lengths(steps_up, steps_down, epochs_up, epochs_down, steps_per_epoch)
    return triangles(1.0, finite("low", low, 0.0, 1.0), up, down, mode, gamma)
