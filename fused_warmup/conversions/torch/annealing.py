"""What schedulers that anneal along a cosine do between two events, as one segment."""

import math

from ...schedules.segment import Kind, PastEnd, Segment

Law = tuple[Segment, int | None]
"""A formula of the next steps, 0 being now, and for how many more of them it holds; None: ever."""


def cosine(e: float, half: float, low: float, base: float, lr: float) -> Law | None:
    """Return the wave on which a recursion like CosineAnnealingLR's goes on from its step ``e``.

    Args:
        e: Steps since the highest rate.
        half: Steps from there to the lowest.
        low: The lowest rate.
        base: The highest rate, as built.
        lr: The rate in force.
    """
    period = int(2 * half)
    if e < 0 or period != 2 * half or half <= 0:
        return None
    whole = period % 2 == 0
    left = int((period // 2 - e) % period)  # steps to the next minimum
    height = (1.0 + math.cos(math.pi * e / half)) / 2.0
    if whole and left == 0:
        # All amplitudes meet here; torch leaves from base_lr, which its next step shows.
        return None
    amplitude = (lr - low) / height
    own = base - low
    as_built = abs(amplitude - own) <= 1e-9 * abs(own)
    wave = Segment(
        Kind.COS,
        PastEnd.CONTINUE,
        origin=-int(e),
        period=period,
        length=half,
        a=low + (own if as_built else amplitude),
        b=low,
    )
    return wave, None if as_built or not whole else left
