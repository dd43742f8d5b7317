"""Which batch each update of Ultralytics follows: ``accumulate`` rises over the warm-up."""

from collections.abc import Iterator
from dataclasses import dataclass

from ...schedules.checks import MAX_VALUES, at_most, shown, whole
from .reading import Options


@dataclass(frozen=True, slots=True)
class Clock:
    """Which batch each update follows."""

    batches: int
    """Batches of an epoch."""
    epochs: int
    warmup: int
    """Batches of the warm-up."""
    early: tuple[int, ...]
    """The last batch of each update of the warm-up."""
    later: int
    """The last batch of the first update after it."""
    apart: int
    """Batches between two updates after it."""
    nominal: int
    """What ``accumulate`` is without a warm-up."""
    reached: float
    """How far the last batch of the warm-up has come, which is short of 1 but in old releases."""

    @classmethod
    def of(cls, options: Options, batches: int, least: int) -> "Clock":
        """Follow the warm-up batch by batch.

        Args:
            options: The training arguments.
            batches: Batches of an epoch.
            least: Batches that the warm-up has at least; 0: the present rule.

        Raises:
            ValueError: ``time`` is set, ``batch`` is left to AutoBatch, or a value out of range.
        """
        if options["time"] is not None:
            raise ValueError(
                f"time={shown(options['time'])} lets the clock set the number of epochs, a "
                "schedule needs it: pass time=None and epochs"
            )
        epochs = 100 if options["epochs"] is None else options.count("epochs", 1)
        if not isinstance(options["batch"], int) or options["batch"] < 1:
            raise ValueError(
                f"batch={shown(options['batch'])} lets AutoBatch choose the batch size, a whole "
                "number is needed: pass the one that its log names"
            )
        ratio = options.count("nbs", 1) / options["batch"]
        length, least = options.number("warmup_epochs"), whole("least_warmup", least, 0)
        length = length if least else min(length, max(epochs - 1, 0))
        warmup = max(round(length * batches), least) if length > 0 else 0
        at_most("warmup_epochs times batches_per_epoch", warmup, MAX_VALUES)
        nominal = max(round(ratio), 1)

        def accumulate(batch: int) -> int:
            return max(1, round(1.0 + (ratio - 1.0) / warmup * batch))

        early: list[int] = []
        last = -1
        for batch in range(min(warmup, epochs * batches)):
            if batch - last >= accumulate(batch):
                early.append(batch)
                last = batch
        # Whatever the warm-up has come to stays; only with a least length does it come to its end.
        apart = accumulate(warmup if least else warmup - 1) if warmup else nominal
        later = max(warmup, last + apart)
        reached = 1.0 if least or not warmup else (warmup - 1) / warmup
        return cls(batches, epochs, warmup, tuple(early), later, apart, nominal, reached)

    @property
    def steps(self) -> int:
        """Updates of the whole training; batches left over at its end have none."""
        left = self.batches * self.epochs - self.later
        count = len(self.early) + max(0, -(-left // self.apart))
        if count == 0:
            raise ValueError(
                f"the training has {self.batches * self.epochs} batches and an update needs "
                f"{self.apart}, so there is none: lower nbs or raise epochs"
            )
        return count

    def runs(self, by_epoch: bool) -> Iterator[tuple[int, int, int]]:
        """Yield the first update, its batch and the distance of updates that are evenly apart.

        Those of one epoch each with ``by_epoch``.
        """
        early, begin = self.early, 0
        unit = self.batches if by_epoch else self.batches * self.epochs
        while begin < len(early):
            end, epoch = begin + 1, early[begin] // unit
            apart = early[end] - early[begin] if end < len(early) else 1
            while (
                end < len(early)
                and early[end] - early[end - 1] == apart
                and early[end] // unit == epoch
            ):
                end += 1
            yield begin, early[begin], apart
            begin = end
