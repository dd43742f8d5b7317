"""Whether the goals on a CPU are met: ``python -m benchmarks check``."""

import torch
from tqdm import tqdm

from .goals import CPU_GOALS, CpuGoal
from .results import Results, Task
from .step import Settings


def run(results: Results, settings: Settings, only: str = "") -> int:
    """Measure what the goals need, print each verdict, and return the exit status.

    Args:
        results: Rows go there, under the part "check".
        settings: On a CPU.
        only: Goals whose case holds this.

    Returns:
        0 if every goal is met, 1 if one falls short or could not be measured.
    """
    goals = [goal for goal in CPU_GOALS if only in goal.case]
    if not goals:
        raise SystemExit(f"no goal's case holds {only!r}: leave --only out to see them all")
    for goal in tqdm(goals, unit="goal"):
        results.run(Task("check", goal.case, lambda goal=goal: goal.measure(settings)))
    verdicts = [judge(goal, results) for goal in goals]
    width = max(len(goal.case) for goal in goals)
    print(f"\nTimes faster than torch fused + LambdaLR, {torch.get_num_threads()} thread(s), steps")
    print("taken in turns; inside: between forward and backward; cold: 48 MB walked before each")
    for goal, (met, found) in zip(goals, verdicts, strict=True):
        verdict = "met" if met else "FALLS SHORT"
        print(f"{goal.case:{width}}  {found:32} at least {goal.at_least:5.2f}  {verdict}")
    return 0 if all(met for met, _ in verdicts) else 1


def judge(goal: CpuGoal, results: Results) -> tuple[bool, str]:
    """Return whether a goal is met, and what was found."""
    row = results.data["parts"]["check"][goal.case]
    if "error" in row:
        return False, row["error"]
    ratio = row["ratios"][goal.kind][goal.against]
    found = f"{ratio['median']:5.2f} (quartiles {ratio['q1']:.2f} to {ratio['q3']:.2f})"
    return ratio["median"] >= goal.at_least, found
