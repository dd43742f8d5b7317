"""README's table and chart, from saved results: the step beside torch's fused one."""

from pathlib import Path

from .goals import FUSED
from .report import seconds, table
from .results import Results, Row

CURVE = "number of tensors, cold"
CASES = (  # what README says, the part and the beginning of the case, and which of its times
    ("the optimizer inside a training step of 53 convolutions, 159 tensors", "model", "", "inside"),
    ("that training step as a whole", "model", "", "total"),
    ("161 tensors of one element, caches cold", "step", "161 x 1,", "cold"),
    ("10,000 tensors of 64 elements", "step", "10,000 x 64,", "total"),
    ("the tensors of ResNet-50, 25.6 million elements", "step", "ResNet-50,", "total"),
)


def found(results: Results, part: str, case: str) -> Row | None:
    """Return the first row of a case that begins so."""
    return next((row for name, row in results.rows(part).items() if name.startswith(case)), None)


def speed_table(results: Results) -> str:
    """Return the cases that were measured as a Markdown table."""
    lines = []
    for words, part, case, kind in CASES:
        row = found(results, part, case)
        if row is not None:
            times = [seconds(row["times"][name][kind]["median"]) for name in (FUSED, row["base"])]
            ratio = row["ratios"][kind][FUSED]
            faster = f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})"
            lines.append([words, *times, faster])
    head = ["one step", "torch fused + `LambdaLR`", "fused_warmup", "times faster (quartiles)"]
    return table(head, lines)


def draw(results: Results, path: Path) -> None:
    """Draw how a step's host time grows with the number of tensors."""
    from matplotlib.figure import Figure

    row = results.rows("scaling")[CURVE]
    ours = next(name for name in row["medians"] if name.startswith("ours"))
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, label, style in (
        (FUSED, "torch fused + LambdaLR", {"color": "#D55E00", "linestyle": "--", "marker": "s"}),
        (ours, "fused_warmup", {"color": "#0072B2", "marker": "o"}),
    ):
        points = {int(n): 1e6 * median for n, median in row["medians"][name].items()}
        axes.plot(list(points), list(points.values()), label=label, **style)
    axes.set(xscale="log", yscale="log", xlabel="tensors", ylabel="host time of a step (us)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def write(results: Results, out: Path) -> None:
    """Write ``speed.md`` and, where the curve was measured, ``speed.png`` into a folder."""
    (out / "speed.md").write_text(speed_table(results) + "\n")
    if CURVE in results.rows("scaling"):
        draw(results, out / "speed.png")
