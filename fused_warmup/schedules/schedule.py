"""A schedule: the factor on the base learning rate at every step, as a short table of segments."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, SupportsFloat, SupportsIndex, overload

from . import drawing
from .attributes import HasAttributes
from .checks import FAR, finite, listed, shown, whole
from .mistaken import remedy
from .plain import PlainSchedule
from .reading import fields_from
from .segment import Segment
from .segments import check_segments, ruling, scaled, summary
from .stretch import segments_at_pace, stretched_segment

Clock = Literal["own", "global"]


@dataclass(frozen=True, slots=True, repr=False)
class Schedule(HasAttributes):
    """A factor for every step ``t = 0, 1, 2, ...``; the learning rate is ``base * schedule(t)``.

    Immutable, hashable, comparable and picklable. The functions of `fused_warmup.schedules` build
    schedules; `then` joins them, and ``a * b`` multiplies them at every step.

    Args:
        segments: The segments in order of their starts, the first of which is 0.
        steps: The schedule's own length in steps, after which another may follow; None: endless.
            It goes on beyond its length as its last segment says.
        factors: Of a product: the schedules that it multiplies, in place of segments.

    Raises:
        TypeError: ``segments`` or ``factors`` holds something else, or ``steps`` is no integer.
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
    factors: tuple["Schedule", ...] = ()

    __array_ufunc__ = None
    """So that a number of NumPy's times a schedule is a schedule."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(listed("segments", self.segments)))
        object.__setattr__(self, "factors", tuple(listed("factors", self.factors)))
        if self.factors:
            from .products import check_product

            check_product(self)
        else:
            check_segments(self.segments)
        if self.steps is not None:
            object.__setattr__(self, "steps", whole("steps", self.steps, 1))

    @property
    def tracks(self) -> "tuple[Schedule, ...]":
        """The factors of a product; of any other schedule itself alone."""
        return self.factors or (self,)

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
        product = 1.0
        for track in self.tracks:
            factor = track.segments[ruling(track.segments, step)].value_at(step)
            # 0 times one that overflowed would be NaN.
            product = 0.0 if product == 0.0 or factor == 0.0 else product * factor
        return product

    def __mul__(self, other: "Schedule | float") -> "Schedule":
        """Return the product of two schedules at the same step, or `scaled` by a number.

        The product is as long as the longer of the two, endless if one of them is.

        Example:
            >>> warmup = Schedule((Segment(length=2, a=0, b=1),), steps=2)
            >>> drops = Schedule((Segment.constant(1), Segment.constant(0.5, start=3)))
            >>> (warmup * drops)(range(5)), (drops * 4)(0)
            ([0.0, 0.5, 1.0, 0.5, 0.5], 4.0)
        """
        if isinstance(other, Schedule):
            from .products import product

            return product((self, other))
        return self.scaled(other) if isinstance(other, SupportsFloat) else NotImplemented

    __rmul__ = __mul__

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
        from .joins import then

        if not isinstance(other, Schedule):
            got = f"{type(other).__name__} {shown(other)}"
            raise TypeError(f"then() takes a Schedule, got {got}: {remedy(other)}")
        return then(self, other, clock)

    def starting_at(self, step: int) -> "Schedule":
        """Return the schedule with its step 0 at a later one; its first value holds until then.

        For a group that joins a training that runs, with a warm-up of its own.

        Raises:
            ValueError: ``step`` is negative.

        Example:
            >>> Schedule((Segment(length=2, a=0.5, b=1),), steps=2).starting_at(3)(range(6))
            [0.5, 0.5, 0.5, 0.5, 0.75, 1.0]
        """
        step = whole("step", step, 0)
        return Schedule((Segment.constant(self(0)),), step).then(self) if step else self

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
        if self.factors:
            first, *rest = self.factors
            return replace(self, factors=(first.scaled(factor), *rest))
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
        length = None if self.steps is None else self.steps * steps
        if self.factors:
            return Schedule((), length, tuple(each.stretched(steps) for each in self.factors))
        segments: list[Segment] = []
        for segment in self.segments:
            if segment.start * steps <= FAR:
                segments += stretched_segment(segment, steps)
        segments = [segment for segment in segments if segment.start <= FAR]
        return Schedule(tuple(segments), length)

    def at_pace(self, new: int, old: int) -> "Schedule":
        """Return this schedule for ``new`` steps where it has ``old``: ``self(t * old / new)``.

        For what counts epochs where their number of steps changes.

        Raises:
            ValueError: It counts in whole steps: it has stairs, cycles or a table.

        Example:
            >>> Schedule((Segment(length=4),), steps=4).at_pace(2, 4)(range(3))
            [1.0, 0.5, 0.0]
        """
        new, old = whole("new", new, 1), whole("old", old, 1)
        length = None if self.steps is None else -(-self.steps * new // old)
        factors = tuple(each.at_pace(new, old) for each in self.factors)
        return Schedule(tuple(segments_at_pace(self.segments, new, old)), length, factors)

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
        name = "factors" if self.factors else "segments"
        parts = self.factors or self.segments
        return {name: [each.to_dict() for each in parts], "steps": self.steps}

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
        return cls(*fields_from(plain))

    def pack(self) -> tuple[bytes, tuple[float, ...]]:
        """Return the segments as 128 bytes each and the values of all tables, joined.

        Those of a product follow one another: each that starts at step 0 begins another factor.

        Example:
            >>> from fused_warmup.schedules import Kind
            >>> records, values = Schedule((Segment(Kind.TABLE, values=(1.0, 0.5)),)).pack()
            >>> len(records), values
            (128, (1.0, 0.5))
        """
        records: list[bytes] = []
        values: list[float] = []
        for track in self.tracks:
            for segment in track.segments:
                records.append(segment.pack(table_offset=len(values)))
                values.extend(segment.values)
        return b"".join(records), tuple(values)

    def __repr__(self) -> str:
        """The builders' calls that make it, which read back; a summary of what is long."""
        from .spelling import spell

        return spell(self) or str(self)

    def __str__(self) -> str:
        if self.factors:
            return f"Product({' * '.join(map(str, self.factors))}; steps={self.steps})"
        return f"Schedule({summary(self.segments)}; steps={self.steps})"
