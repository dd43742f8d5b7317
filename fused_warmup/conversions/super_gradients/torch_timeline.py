"""The rates of a torch scheduler under SuperGradients' trainer, at every optimizer step."""

import math
from typing import Any

from ...schedules.checks import MAX_VALUES
from ...schedules.schedule import Schedule
from ...schedules.segment import Segment
from ...schedules.tables import table
from ..ahead.known import stranger
from ..ahead.own import run_ahead
from ..ahead.sandbox import Sandbox
from ..torch.momentum import cyclers, highest_momentum, momentum_from_torch
from ..torch.schedulers import trace
from .options import BATCH_WARMUP, Options
from .timeline import in_order, warmup_of
from .torch_mode import BATCH_END, BATCH_STEP, EPOCH_START, TorchMode


def torch_timeline(options: Options, mode: TorchMode, initial_lr: float, start: float) -> Schedule:
    """Return the factors on ``initial_lr`` at every optimizer step.

    Args:
        options: The training parameters.
        mode: The scheduler.
        initial_lr: The group's base rate, above 0.
        start: Factor on ``initial_lr`` at which the warm-up starts.
    """
    run = _Run(options, mode, initial_lr)
    assigned = [segment for segment, _ in warmup_of(options, start)]
    first = math.ceil(options.lr_warmup_epochs)
    in_first_epoch = bool(assigned) and options.warmup_mode == BATCH_WARMUP and first == 0
    by_batch = mode.phase in (BATCH_END, BATCH_STEP)
    if in_first_epoch and by_batch:
        return run.in_turns(start)
    early = options.faithful and mode.phase == EPOCH_START
    if not assigned:
        assigned = [Segment.constant(run.factor)]
        run.step(int(early))
    elif in_first_epoch:  # a scheduler that steps as epoch 0 starts is overwritten until it ends
        run.step(int(early))
        run.leave(assigned[-1].value_at(options.total_steps))
        run.step(1)
        first = 1
    else:
        run.leave(assigned[-1].value_at(options.total_steps))
        run.step(int(early))
    at = options.step_at(first)
    return run.after(assigned, at, run.by_batches(at, first) if by_batch else run.by_epochs(first))


def torch_momentum(options: Options, mode: TorchMode) -> dict[str, Any]:
    """Return `SGD`'s options of the momentum that a scheduler cycles; none where it does not."""
    run = _MomentumRun(options, mode, 1.0)
    if run.base <= 0.0:
        return {}
    first = math.ceil(options.lr_warmup_epochs)
    run.step(int(options.faithful and mode.phase == EPOCH_START))
    at = options.step_at(first)
    by_batch = mode.phase in (BATCH_END, BATCH_STEP)
    rest = run.by_batches(at, first) if by_batch else run.by_epochs(first)
    schedule = run.after([Segment.constant(1.0)], at, rest)  # built, it has the highest
    return {"momentum": run.base, "momentum_schedule": schedule}


class _Run:
    """A scheduler over a group of its own.

    Args:
        options: The training parameters.
        mode: The scheduler.
        initial_lr: The base rate of the group, on which its rates are factors.
    """

    def __init__(self, options: Options, mode: TorchMode, initial_lr: float) -> None:
        self._options = options
        self._phase = mode.phase
        self._initial_lr = initial_lr
        self._scheduler: Any = mode.build(initial_lr)
        self._group = self._scheduler.optimizer.param_groups[0]
        self._scheduler.optimizer._opt_called = True  # else torch warns that nobody trains

    @property
    def factor(self) -> float:
        """The factor on the base rate in force."""
        return float(self._group["lr"]) / self._initial_lr

    def leave(self, factor: float) -> None:
        """Let a warm-up leave a factor, of which most schedulers make the next."""
        if self._options.faithful:
            self._group["lr"] = factor * self._initial_lr

    def step(self, times: int) -> None:
        """Step the scheduler itself."""
        for _ in range(times):
            self._scheduler.step()

    def ahead(self, steps: int) -> Schedule:
        """Return the factor in force and those after each further step."""
        if stranger(self._scheduler) is not None:
            return table(run_ahead(self._scheduler, steps).rates[0]).scaled(1 / self._initial_lr)
        box = Sandbox(self._scheduler, 0, live=True)
        return Schedule(tuple(trace(box, steps)), steps).scaled(box.unit / self._initial_lr)

    def by_epochs(self, first: int) -> Schedule | None:
        """Return what follows if it is stepped once an epoch from epoch ``first`` on."""
        options = self._options
        if first >= options.max_epochs:
            return None
        levels = self.ahead(options.max_epochs - first)
        stair, rest = divmod(options.steps_per_epoch, options.batch_accumulate)
        if not rest:
            return levels.stretched(stair)
        start = options.step_at(first)
        # Of two epochs that reach the same step first, the later one rules.
        starts = {options.step_at(first + i) - start: i for i in range(options.max_epochs - first)}
        return Schedule(tuple(Segment.constant(levels(i), at) for at, i in starts.items()))

    def by_batches(self, start: int, first: int, done: int = 0) -> Schedule | None:
        """Return what follows from step ``start`` on if it is stepped by batches.

        Args:
            start: The optimizer step.
            first: The first epoch in which the scheduler is stepped.
            done: Batches of that epoch that it has behind it.
        """
        options, accumulate = self._options, self._options.batch_accumulate
        steps = options.total_steps - start
        if steps < 1:
            return None
        if self._phase == BATCH_STEP or (accumulate == 1 and not options.faithful):
            return self.ahead(steps)
        # The loss of a step's last batch comes before the step, and with it the scheduler.
        behind = first * options.steps_per_epoch + done
        position = accumulate if options.faithful else 0
        counts = [
            max(step * accumulate + position - behind, 0)
            for step in range(start, options.total_steps)
        ]
        if accumulate == 1:
            self.step(counts[0])
            return self.ahead(steps)
        if counts[-1] >= MAX_VALUES:
            raise ValueError(
                f"the scheduler would be followed for {counts[-1]} batches one by one, at most "
                f"{MAX_VALUES} can be: choose the phase {BATCH_STEP}, or lower max_epochs"
            )
        return table(self.ahead(counts[-1] + 1)(counts))

    def in_turns(self, start: float) -> Schedule:
        """Return the factors where warm-up and scheduler both write the rate of each batch."""
        options, accumulate = self._options, self._options.batch_accumulate
        batches = int(options.warmup_length)
        early = self._phase == BATCH_END and options.faithful
        factors = []
        for batch in range(batches):
            assigned = start + (1.0 - start) * batch / max(batches - 1, 1)
            self.leave(assigned)
            self.step(int(early))
            completes = (batch + 1) % accumulate == 0
            if completes if options.faithful else batch % accumulate == 0:
                factors.append(self.factor if options.faithful else assigned)
            by_step = self._phase == BATCH_STEP
            self.step(int(completes if by_step else not early))
        steps = min(len(factors), options.total_steps)
        head = [table(factors).segments[0]] if factors else []
        return self.after(head, steps, self.by_batches(steps, 0, batches))

    def after(self, warmup: list[Segment], start: int, rest: Schedule | None) -> Schedule:
        """Return the warm-up until ``start``, then what follows."""
        total = self._options.total_steps
        if start and rest is not None:
            rest = in_order(warmup, total).lasting(start).then(rest)
        return in_order(warmup if rest is None else list(rest.segments), total)


class _MomentumRun(_Run):
    """The momentum of a scheduler, in factors on its highest."""

    @property
    def base(self) -> float:
        """The highest momentum; 0 where it cycles none."""
        cycles = cyclers(self._scheduler)
        return highest_momentum(self._scheduler, 0) if cycles else 0.0

    def ahead(self, steps: int) -> Schedule:
        """Return the factor in force and those after each further step."""
        done = self._scheduler.last_epoch
        course = momentum_from_torch(self._scheduler, steps=done + steps)
        assert course is not None  # it cycles one
        return table(course(range(done, done + steps))) if done else course.lasting(steps)
