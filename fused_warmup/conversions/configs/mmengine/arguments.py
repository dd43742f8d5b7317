"""Makes the law of each of MMEngine's schedulers from its arguments."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ....schedules.checks import finite, listed, whole
from ....schedules.segment import Kind
from ..reading import Options
from .laws import Drops, Law, Linear, Poly, Quadratic, Stairs
from .waves import Cosine, OneCycle, Restarts


@dataclass(frozen=True)
class Base:
    """The base value that a scheduler finds, and how absolute values relate to the unit."""

    parameter: str
    unit: float | None
    value: float

    def share(self, name: str, absolute: float) -> float:
        """Return an absolute value as a factor."""
        if absolute == 0.0:
            return 0.0
        if not self.unit:
            raise ValueError(
                f"{name}={absolute} is a value, a factor on the base {self.parameter} is needed: "
                f"pass {self.parameter}="
            )
        return absolute / self.unit

    def low(self, options: Options) -> float:
        """Return the factor of ``eta_min`` or ``eta_min_ratio``."""
        low, ratio = options["eta_min"], options["eta_min_ratio"]
        if low is not None and ratio is not None:
            raise ValueError(
                f"eta_min={low} and eta_min_ratio={ratio} exclude each other: leave one out"
            )
        if ratio is not None:
            return self.value * options.number("eta_min_ratio")
        return 0.0 if low is None else self.share("eta_min", options.number("eta_min"))


@dataclass(frozen=True)
class Arguments:
    """What a law is made from."""

    name: str
    options: Options
    length: int | None
    scale: int
    base: Base

    def ended(self) -> int:
        """Return the length, which this law needs.

        Raises:
            ValueError: It is not known.
        """
        if self.length is None:
            raise ValueError(
                f"the length of {self.name} is not known: give it an end, or pass max_epochs= (or "
                "max_iters=) and epoch_length="
            )
        return self.length

    def count(self, option: str) -> int:
        """Return a number of ticks of at least 1."""
        if self.options[option] is None:
            raise ValueError(f"{self.name} needs {option}, which has no default: add it")
        return self.ticks(option, self.options[option], 1)

    def ticks(self, option: str, value: float, minimum: int = 0) -> int:
        """Return a position or a length in ticks.

        Raises:
            ValueError: It lies between two, where MMEngine would pass it over.
        """
        ticks = finite(option, value, 0.0) * self.scale
        if not ticks.is_integer():
            raise ValueError(
                f"{option}={value} of {self.name} lies between two steps of its clock, where it "
                "would never come: round it"
            )
        return whole(option, int(ticks), minimum)

    def factor(self, option: str, highest: float = float("inf")) -> float:
        """Return a factor above 0."""
        if self.options[option] is None:
            raise ValueError(f"{self.name} needs {option}, which has no default: add it")
        return finite(option, self.options[option], 0.0, highest, exclusive=True)


Result = tuple[Law, float]


def _constant(of: Arguments) -> Result:
    factor, length = of.factor("factor", 1.0), of.ended()
    factors = {0: factor} if length == 1 else {0: factor, length - 1: 1.0 / factor}
    return Drops(length, factors), of.base.value


def _linear(of: Arguments) -> Result:
    end = finite("end_factor", of.options["end_factor"], 0.0, 1.0)
    return Linear(of.ended(), of.factor("start_factor", 1.0), end), of.base.value


def _multi_step(of: Arguments) -> Result:
    given = listed("milestones", of.options["milestones"])
    gamma = of.options.number("gamma")
    counts = Counter(of.ticks("milestones", each) for each in given)
    return Drops(of.length, {n: gamma**count for n, count in counts.items()}), of.base.value


def _step(of: Arguments) -> Result:
    return Stairs(of.length, of.count("step_size"), of.factor("gamma")), of.base.value


def _exponential(of: Arguments) -> Result:
    return Stairs(of.length, 1, of.factor("gamma")), of.base.value


def _quadratic(of: Arguments) -> Result:
    return Quadratic(of.ended(), of.base.value), of.base.value


def _poly(of: Arguments) -> Result:
    low = of.base.share("eta_min", of.options.number("eta_min"))
    return Poly(of.ended(), low, of.options.number("power")), of.base.value


def _cosine(of: Arguments) -> Result:
    half = of.count("T_max") if of.options["T_max"] else of.ended()
    return Cosine(of.ended(), half, of.base.low(of.options), of.base.value), of.base.value


def _restarts(of: Arguments) -> Result:
    if of.options["eta_min"] is None and of.options["eta_min_ratio"] is None:
        raise ValueError(f"{of.name} needs eta_min or eta_min_ratio: add one, 0 for none")
    periods = tuple(of.ticks("periods", p, 1) for p in listed("periods", of.options["periods"]))
    weights = tuple(
        finite("restart_weights", each, 0.0)
        for each in listed("restart_weights", of.options["restart_weights"])
    )
    if len(periods) != len(weights):
        raise ValueError(
            f"{of.name} has {len(periods)} periods and {len(weights)} restart_weights: give as "
            "many of one as of the other"
        )
    base = of.base
    return Restarts(of.length, periods, weights, base.low(of.options), base.value), base.value


def _one_cycle(of: Arguments) -> Result:
    options = of.options
    total = of.count("total_steps") if options["total_steps"] is not None else of.ended()
    highest = of.base.share("eta_max", options.number("eta_max", exclusive=True))
    first = highest / of.factor("div_factor")
    last = first / of.factor("final_div_factor")
    share = finite("pct_start", options["pct_start"], 0.0, 1.0)
    kinds = {"cos": Kind.COS, "linear": Kind.POLY}
    kind = kinds[options.choice("anneal_strategy", kinds)]
    length = total if of.length is None else min(of.length, total)
    back = [first] if options.flag("three_phase") else []
    ends = [share * total - 1.0, *[2.0 * share * total - 2.0] * len(back), total - 1.0]
    heights = [first, highest, *back, last]
    # It also makes its first rate the base of the schedulers after it.
    return OneCycle(length, tuple(heights), tuple(ends), kind), first


LAWS: dict[str, Callable[[Arguments], Result]] = {
    "Constant": _constant,
    "Linear": _linear,
    "MultiStep": _multi_step,
    "Step": _step,
    "Exponential": _exponential,
    "Poly": _poly,
    "QuadraticWarmup": _quadratic,
    "CosineAnnealing": _cosine,
    "CosineRestart": _restarts,
    "OneCycle": _one_cycle,
}
