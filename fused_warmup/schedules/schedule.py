"""A schedule: the factor on the base learning rate at every step, as a short table of segments."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, SupportsIndex, overload

from . import drawing
from .attributes import HasAttributes
from .checks import FAR, MAX_SEGMENTS, at_most, finite, listed, shown, whole
from .plain import PlainSchedule
from .segment import Segment
from .segments import check_segments, later, ruling, scaled, summary
from .stretch import stretched_segment

Clock = Literal["own", "global"]


@dataclass(frozen=True, slots=True, repr=False)
class Schedule(HasAttributes):
    """A factor for every step ``t = 0, 1, 2, ...``; the learning rate is ``base * schedule(t)``.

    Immutable, hashable, comparable and picklable. The functions of `fused_warmup.schedules` build
    schedules; `then` joins them.

    Args:
        segments: The segments in order of their starts, the first of which is 0.
        steps: The schedule's own length in steps, after which another may follow; None: endless.
            It goes on beyond its length as its last segment says.

    Raises:
        TypeError: ``segments`` holds something other than segments, or ``steps`` is no integer.
        ValueError: No segments, a gap before the first, starts out of order, a factor below 0,
            ``steps`` < 1, more than 16,384 segments or 4,194,304 values in their tables.

    Example:
        >>> from fused_warmup.schedules import Kind, Segment
        >>> warmup = Schedule((Segment(length=4, a=0.2, b=1),), steps=4)
        >>> decay = Schedule((Segment(Kind.COS, length=10),), steps=10)
        >>> schedule = warmup.then(decay)
        >>> schedule
        linear_warmup(4, start=0.2).then(cosine(10))
        >>> print(schedule)
        Schedule(0: poly 0.2 -> 1 in 4; 4: cos 1 -> 0 in 10; steps=14)
        >>> schedule(2), schedule([4, 9, 14])
        (0.6, [1.0, 0.5, 0.0])
    """

    segments: tuple[Segment, ...]
    steps: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(listed("segments", self.segments)))
        check_segments(self.segments)
        if self.steps is not None:
            object.__setattr__(self, "steps", whole("steps", self.steps, 1))

    @overload
    def __call__(self, t: SupportsIndex) -> float: ...
    @overload
    def __call__(self, t: Iterable[SupportsIndex]) -> Any: ...
    def __call__(self, t: SupportsIndex | Iterable[SupportsIndex]) -> Any:
        """Return the factor at step ``t``.

        Args:
            t: One step, or many of them as a list, a range, a numpy array or a torch tensor.

        Returns:
            A float for one step, a list for a list or a range, a float64 array of the same shape
            for a numpy array, a float64 CPU tensor of the same shape for a torch tensor.

        Raises:
            TypeError: A step is no integer.
            ValueError: A step is negative.

        Example:
            >>> Schedule((Segment(length=4),))(range(3))
            [1.0, 0.75, 0.5]
        """
        # An object of a library that nobody has imported yet cannot have come in.
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        if torch is not None and isinstance(t, torch.Tensor):
            values = [self._value_at(step) for step in t.reshape(-1).tolist()]
            return torch.tensor(values, dtype=torch.float64, device="cpu").reshape(t.shape)
        if numpy is not None and isinstance(t, numpy.ndarray):
            values = [self._value_at(step) for step in t.reshape(-1).tolist()]
            return numpy.array(values, dtype=numpy.float64).reshape(t.shape)
        if isinstance(t, Iterable):
            return [self._value_at(step) for step in t]
        return self._value_at(t)

    def _value_at(self, t: SupportsIndex) -> float:
        step = whole("t", t, 0)
        return self.segments[ruling(self.segments, step)].value_at(step)

    def then(self, other: "Schedule", *, clock: Clock = "own") -> "Schedule":
        """Return this schedule for its `steps`, followed by ``other``.

        Args:
            other: What follows.
            clock: ``"own"``: ``other`` starts at its own step 0 when this one ends.
                ``"global"``: ``other`` counts from the start of training too, and this one merely
                covers its beginning, as a warm-up before drops "at epochs 30, 60 and 80".

        Raises:
            ValueError: This schedule is endless, the clock is unknown, or (``"global"``)
                ``other`` is over before this one.

        Example:
            >>> warmup = Schedule((Segment(length=2, a=0, b=1),), steps=2)
            >>> drops = Schedule((Segment.constant(1), Segment.constant(0.1, start=3)))
            >>> warmup.then(drops)(range(6))
            [0.0, 0.5, 1.0, 1.0, 1.0, 0.1]
            >>> warmup.then(drops, clock="global")(range(6))
            [0.0, 0.5, 1.0, 0.1, 0.1, 0.1]
        """
        if not isinstance(other, Schedule):
            raise TypeError(f"then() takes a Schedule, got {type(other).__name__}: build one")
        if clock not in ("own", "global"):
            raise ValueError(
                f"clock must be 'own' or 'global', got {shown(clock)}: use one of these"
            )
        end = self.steps
        if end is None:
            raise ValueError(
                "an endless schedule (steps=None) cannot be followed: give it a length with "
                ".lasting(steps)"
            )
        head = tuple(segment for segment in self.segments if segment.start < end)
        if clock == "global":
            if other.steps is not None and other.steps <= end:
                raise ValueError(
                    f"on the global clock what follows must outlast the first {end} steps, got "
                    f"steps={other.steps}: make it longer or use clock='own'"
                )
            at = ruling(other.segments, end)
            first = replace(other.segments[at], start=end)
            return Schedule((*head, first, *other.segments[at + 1 :]), other.steps)
        tail = later(other.segments, end)
        return Schedule((*head, *tail), None if other.steps is None else end + other.steps)

    def lasting(self, steps: int) -> "Schedule":
        """Return the same values with a length of ``steps``, so that another may follow.

        Example:
            >>> Schedule((Segment.constant(0.5),)).lasting(10)
            constant(0.5, 10)
        """
        return replace(self, steps=whole("steps", steps, 1))

    def scaled(self, factor: float) -> "Schedule":
        """Return this schedule with every value multiplied by ``factor``.

        Raises:
            ValueError: ``factor`` is negative, infinite or NaN.

        Example:
            >>> Schedule((Segment.constant(0.5),)).scaled(3)(0)
            1.5
        """
        factor = finite("factor", factor, 0.0)
        if factor == 0.0:
            return Schedule((Segment.constant(0.0),), self.steps)
        return replace(self, segments=tuple(scaled(self.segments, factor)))

    def stretched(self, steps: int) -> "Schedule":
        """Return this schedule with each factor held for ``steps`` steps: ``self(t // steps)``.

        For what counts epochs, with ``steps`` the updates of one: a torch scheduler that is stepped
        once an epoch, say.

        Raises:
            ValueError: ``steps`` is below 1, or so high that a clock leaves int64; a table that
                repeats would have more than 4,194,304 values.

        Example:
            >>> Schedule((Segment(length=4),), steps=4).stretched(3)(range(7))
            [1.0, 1.0, 1.0, 0.75, 0.75, 0.75, 0.5]
        """
        steps = whole("steps", steps, 1)
        if steps == 1:
            return self
        segments: list[Segment] = []
        for segment in self.segments:
            if segment.start * steps <= FAR:
                segments += stretched_segment(segment, steps)
        segments = [segment for segment in segments if segment.start <= FAR]
        return Schedule(tuple(segments), None if self.steps is None else self.steps * steps)

    def plot(self, steps: int | None = None, *, lr: float = 1.0, axes: Any = None) -> Any:
        """Draw the learning rate over the steps: with matplotlib, or in characters without it.

        Args:
            steps: How many steps; by default its own and the one after, 1,000 of an endless one.
            lr: The base learning rate.
            axes: Axes of matplotlib to draw into; by default a figure of its own.

        Returns:
            The axes, for a title, say, or `matplotlib.pyplot.show()`. Without matplotlib it prints
            the curve and returns None.

        Raises:
            ValueError: ``steps`` is below 1, ``lr`` is negative or not finite.

        Example:
            >>> axes = Schedule((Segment(length=4, a=0, b=1),), steps=4).plot(lr=0.4)
            >>> axes.get_ylabel(), [float(y) for y in axes.lines[0].get_ydata()]
            ('learning rate', [0.0, 0.1, 0.2, 0.30000000000000004, 0.4])
        """
        return drawing.plot(self, steps, lr, axes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data (dicts, lists, strings, numbers), fit for a checkpoint or JSON.

        Example:
            >>> Schedule((Segment(length=4, a=0, b=1),), steps=4).to_dict()
            {'segments': [{'kind': 'poly', 'length': 4.0, 'a': 0.0, 'b': 1.0}], 'steps': 4}
        """
        return {"segments": [segment.to_dict() for segment in self.segments], "steps": self.steps}

    @classmethod
    def from_dict(cls, plain: "Mapping[str, Any] | Schedule") -> "Schedule":
        """Return the schedule that `to_dict` wrote; a Schedule is returned as it is.

        Raises:
            TypeError: ``plain`` is neither a mapping nor a Schedule, or its segments are no list of
                mappings; a field of the wrong type.
            ValueError: Missing or unknown keys; a field out of its range; a factor below 0.
        """
        if isinstance(plain, Schedule):
            return plain
        if isinstance(plain, PlainSchedule):
            return plain.schedule
        if not isinstance(plain, Mapping):
            raise TypeError(
                f"a schedule must be a Schedule or the dict of Schedule.to_dict(), got "
                f"{shown(plain)} of type {type(plain).__name__}: see fused_warmup.schedules "
                "for builders"
            )
        if set(plain) != {"segments", "steps"}:
            raise ValueError(
                f"a schedule's dict must have the keys 'segments' and 'steps', got "
                f"{shown(list(plain))}: pass what Schedule.to_dict() returned"
            )
        segments = plain["segments"]
        if isinstance(segments, (list, tuple)):
            at_most("segments", len(segments), MAX_SEGMENTS)
        if not isinstance(segments, (list, tuple)) or not all(
            isinstance(segment, Mapping) for segment in segments
        ):
            raise TypeError(
                f"the segments of a schedule's dict must be a list of dicts, got "
                f"{shown(segments)}: pass what Schedule.to_dict() returned"
            )
        return cls(tuple(map(Segment.from_dict, segments)), plain["steps"])

    def pack(self) -> tuple[bytes, tuple[float, ...]]:
        """Return the segments as 128 bytes each and the values of all tables, joined.

        Example:
            >>> from fused_warmup.schedules import Kind
            >>> records, values = Schedule((Segment(Kind.TABLE, values=(1.0, 0.5)),)).pack()
            >>> len(records), values
            (128, (1.0, 0.5))
        """
        records: list[bytes] = []
        values: list[float] = []
        for segment in self.segments:
            records.append(segment.pack(table_offset=len(values)))
            values.extend(segment.values)
        return b"".join(records), tuple(values)

    def __repr__(self) -> str:
        """The builders' calls that make it, which read back; a summary of what is long."""
        from .spelling import spell

        return spell(self) or str(self)

    def __str__(self) -> str:
        return f"Schedule({summary(self.segments)}; steps={self.steps})"
