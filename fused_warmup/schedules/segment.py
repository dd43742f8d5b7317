"""One segment of a schedule: a formula and its clock, as sixteen plain numbers.

``Segment.value_at`` is the Python twin of ``csrc/math/schedule.h``: the same operations in the same
order on IEEE doubles, so that both agree to the last bits of a double.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

from .checks import FAR, INT64_MAX, finite, numbers, shown, whole

LAYOUT = struct.Struct("<8q8d")
"""How one segment is packed; the field order of ``struct Segment`` in ``csrc/math/schedule.h``."""


class Kind(IntEnum):
    """The formula of a segment; ``x`` is its clock over its length."""

    POLY = 0
    """``b + (a - b) (1 - x^k)^p``"""
    COS = 1
    """``b + (a - b) [(1 + cos(pi m x^k)) / 2]^p``"""
    EXP = 2
    """``b + (a - b) exp(p x)``"""
    POW = 3
    """``b + (a - b) (1 + x)^-p``"""
    TABLE = 4
    """``values[n]``, one float per step"""


class PastEnd(IntEnum):
    """What a segment does outside ``0 <= x <= 1``."""

    HOLD = 0
    """``x`` is clamped to ``[0, 1]``."""
    CONTINUE = 1
    """The formula as it is."""


@dataclass(frozen=True, slots=True, repr=False)
class Segment:
    """A formula that rules the steps ``t`` from ``start`` to the start of the next segment.

    Its clock is ``n = t - origin`` in int64 (where that overflows, its largest number), wrapped to
    ``[0, period)`` if ``period > 0``, then floored to a multiple of ``stair``;
    ``x = (n + shift) / length``. Every ``period`` multiplies ``a - b`` by ``exp(log_cycle_gain)``.

    Args:
        kind: The formula, see `Kind`.
        past_end: Whether ``x`` is clamped to ``[0, 1]`` (HOLD) or not (CONTINUE).
        start: First step it rules.
        origin: Step at which its clock is zero: from -2**61 to 2**62 steps after ``start``.
        stair: The clock moves in jumps of this many steps, at most 2**62.
        period: Steps after which the clock returns to zero; 0 for never.
        shift: Added to the clock, in steps, may be fractional.
        length: Steps from ``x = 0`` to ``x = 1``.
        a: Value at ``x = 0``.
        b: Value the formula falls or rises to.
        p: Exponent of the formula; for EXP the natural logarithm of the decay over ``length``.
        k: Exponent of ``x`` (POLY and COS).
        m: Half waves of the cosine per ``length`` (COS).
        log_cycle_gain: Natural logarithm of the gain per period.
        values: The values of a TABLE; its first and last hold outside.

    Raises:
        TypeError: A field of the wrong type.
        ValueError: A field out of its range.

    Example:
        >>> ramp = Segment(length=4, a=0, b=1)
        >>> [ramp.value_at(t) for t in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
        >>> ramp
        Segment(POLY, length=4.0, a=0.0, b=1.0)
    """

    kind: Kind = Kind.POLY
    past_end: PastEnd = PastEnd.HOLD
    start: int = 0
    origin: int = 0
    stair: int = 1
    period: int = 0
    shift: float = 0.0
    length: float = 1.0
    a: float = 1.0
    b: float = 0.0
    p: float = 1.0
    k: float = 1.0
    m: float = 1.0
    log_cycle_gain: float = 0.0
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name, choice in (("kind", Kind), ("past_end", PastEnd)):
            if not isinstance(value := getattr(self, name), choice):
                raise TypeError(
                    f"{name} must be a {choice.__name__}, got {shown(value)}: use one of "
                    f"{list(choice)}"
                )
        # Within these bounds no step up to 2**62 makes an integer that int64 does not hold.
        put("start", whole("start", self.start, 0))
        put("origin", whole("origin", self.origin, -FAR // 2, min(self.start + FAR, INT64_MAX)))
        put("stair", whole("stair", self.stair, 1, FAR))
        put("period", whole("period", self.period, 0))
        for name in ("shift", "a", "b", "p", "k", "m", "log_cycle_gain"):
            put(name, finite(name, getattr(self, name)))
        put("length", finite("length", self.length, 0.0, exclusive=True))
        put("values", numbers("values", self.values))
        self._check_consistency()

    def _check_consistency(self) -> None:
        if (self.kind is Kind.TABLE) != bool(self.values):
            raise ValueError(
                f"a {self.kind.name} segment got {len(self.values)} values: "
                "a TABLE needs at least one, any other kind takes none"
            )
        if self.kind in (Kind.POLY, Kind.COS):
            finite("p", self.p, 0.0)
            finite("k", self.k, 0.0, exclusive=True)
        if self.log_cycle_gain and not self.period:
            raise ValueError(
                f"log_cycle_gain={self.log_cycle_gain} needs cycles, got period=0: "
                "set period to the steps of a cycle"
            )
        if self.kind is Kind.COS and self.past_end is PastEnd.CONTINUE:
            first = 0 if self.period else min(self.start - self.origin, 0)
            last = self.period or INT64_MAX
            far = max(abs((n + self.shift) / self.length) for n in (float(first), float(last)))
            if not math.isfinite(self.m * real_pow(far, self.k)):
                raise ValueError(
                    f"a cosine's angle must stay finite at any step, got m={self.m}, k={self.k}, "
                    f"shift={self.shift}, length={self.length}: make it slower or set past_end to "
                    "HOLD"
                )
        if self.kind is Kind.POW and self.past_end is PastEnd.CONTINUE:
            first = 0 if self.period else (self.start - self.origin) // self.stair * self.stair
            if not 1.0 + (first + self.shift) / self.length > 0.0:
                raise ValueError(
                    f"a POW segment is infinite at one length before its origin, got "
                    f"start={self.start}, origin={self.origin}, shift={self.shift}, "
                    f"length={self.length}: start it later or set past_end to HOLD"
                )

    @classmethod
    def constant(cls, value: float, start: int = 0) -> "Segment":
        """Return a segment that is ``value`` at every step from ``start`` on."""
        return cls(start=start, origin=start, a=value, b=value)

    def value_at(self, t: int) -> float:
        """Return the value at step ``t``, in float64 from the int64 ``t``."""
        n, cycle = min(t - self.origin, INT64_MAX), 0
        if self.period > 0:
            cycle, n = divmod(n, self.period)
        if self.stair > 1:
            n = n // self.stair * self.stair
        gain = _exp(self.log_cycle_gain * float(cycle)) if self.log_cycle_gain != 0.0 else 1.0
        if self.kind is Kind.TABLE:
            f = self.values[min(max(n, 0), len(self.values) - 1)]
            return self.b + (f - self.b) * gain
        x = (float(n) + self.shift) / self.length
        if self.past_end is PastEnd.HOLD:
            x = min(max(x, 0.0), 1.0)
        if self.a == self.b:  # no amplitude, no curve: 0 times one that overflowed would be NaN
            return self.b
        # Left to right, as in the C++ twin: another order would round differently.
        return self.b + (self.a - self.b) * gain * self._shape(x)

    def _shape(self, x: float) -> float:
        if self.kind is Kind.EXP:
            return _exp(self.p * x)
        if self.kind is Kind.POW:
            return real_pow(1.0 + x, -self.p)
        y = real_pow(x, self.k)
        if self.kind is Kind.POLY:
            return real_pow(1.0 - y, self.p)
        # Whole waves are taken off first, which is exact: a large angle is rounded no more than a
        # small one.
        return real_pow((1.0 + math.cos(math.pi * (abs(self.m * y) % 2.0))) / 2.0, self.p)

    def pack(self, table_offset: int = 0) -> bytes:
        """Return the 128 bytes of the segment; a TABLE's values lie at ``table_offset``."""
        integers = (self.kind, self.past_end, self.start, self.origin, self.stair, self.period)
        table = (table_offset if self.values else 0, len(self.values))
        floats = (self.shift, self.length, self.a, self.b, self.p, self.k, self.m)
        return LAYOUT.pack(*integers, *table, *floats, self.log_cycle_gain)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the kind's name and every field that is not at its default.

        Example:
            >>> Segment(Kind.COS, length=10).to_dict()
            {'kind': 'cos', 'length': 10.0}
        """
        plain: dict[str, Any] = {"kind": self.kind.name.lower()}
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                plain[field.name] = value
        if "past_end" in plain:
            plain["past_end"] = self.past_end.name.lower()
        if "values" in plain:
            plain["values"] = list(self.values)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Segment":
        """Return the segment that `to_dict` wrote.

        Raises:
            TypeError: A field of the wrong type.
            ValueError: An unknown field, kind or past_end; a field out of its range.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in plain if name not in known]:
            raise ValueError(f"unknown segment fields {shown(unknown)}: use only {known}")
        arguments = dict(plain)
        for name, choice in (("kind", Kind), ("past_end", PastEnd)):
            if name in arguments:
                arguments[name] = _member(choice, name, arguments[name])
        return cls(**arguments)

    def __repr__(self) -> str:
        shown = [self.kind.name]
        for name, value in self.to_dict().items():
            if name == "values":
                shown.append(f"values=<{len(value)} floats>")
            elif name != "kind":
                shown.append(f"{name}={value.upper() if name == 'past_end' else value}")
        return f"Segment({', '.join(shown)})"


def _member(choice: type[IntEnum], name: str, value: object) -> IntEnum:
    names = [member.name.lower() for member in choice]
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {names}, got {shown(value)}: use one of these")
    return choice[value.upper()]


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:  # C returns infinity
        return math.inf


def real_pow(base: float, exponent: float) -> float:
    """``base ** exponent`` where an exponent of 1 is exact and a complex result is 0."""
    if exponent == 1.0:
        return base
    odd = exponent % 2.0 == 1.0
    if base < 0.0 and not exponent.is_integer():
        return 0.0
    try:
        return math.pow(base, exponent)
    except OverflowError:  # C returns infinity
        return -math.inf if base < 0.0 and odd else math.inf
