"""Saved results as a Markdown report and plots."""

from pathlib import Path
from typing import Any

from . import plots
from .results import Results

KINDS = ("inside", "device", "host", "total", "cold")


def seconds(value: float) -> str:
    """Return a time with a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def table(head: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])


def comparison(row: dict[str, Any], bandwidth: float | None = None) -> str:
    """Return the table of a row that `step.compare` measured, and its hot loop as a footnote."""
    kinds = [k for k in KINDS if any(k in t for t in row["times"].values())]
    head = ["contender"]
    for kind in kinds:
        head += [f"{kind} time", "quartiles", "times ours"]
    traced = "trace" in row
    head += ["kernels, copies, syncs a step", "time in kernels and copies"] * traced
    if bandwidth:
        head += ["of copy bandwidth"]
    lines = []
    for name, times in row["times"].items():
        line = [name]
        for kind in kinds:
            if kind not in times:
                line += ["", "", ""]
                continue
            found = times[kind]
            ratio = row.get("ratios", {}).get(kind, {}).get(name)
            base = "1" if name == row["base"] else ""
            line += [
                seconds(found["median"]),
                f"{seconds(found['q1'])} to {seconds(found['q3'])}",
                f"{ratio['median']:.2f}" if ratio else base,
            ]
        if traced and name in row["trace"]:
            a_step = row["trace"][name]
            line.append(", ".join(f"{a_step[k]:g}" for k in ("kernels", "copies", "syncs")))
            line.append(seconds(a_step["busy"]))
        elif traced:
            line += ["", ""]
        if bandwidth:
            device = times.get("device")
            line.append(f"{row['bytes'] / device['median'] / bandwidth:.1%}" if device else "")
        lines.append(line)
    return table(head, lines) + footnote(row)


def footnote(row: dict[str, Any]) -> str:
    """Return what a loop of steps takes."""
    ratios = row.get("ratios", {}).get("hot", {})
    found = [
        f"{name} {seconds(times['hot']['median'])}"
        + (f" ({ratios[name]['median']:.2f})" if name in ratios else "")
        for name, times in row["times"].items()
        if "hot" in times
    ]
    if not found:
        return ""
    return "\n\nA loop of nothing but steps, which no training has: " + "; ".join(found) + "."


def growth(row: dict[str, Any]) -> str:
    """Return the table of a row that `scaling.curve` measured."""
    names = list(row["medians"])
    head = [""]
    for name in names:
        head += [name] + ["times ours"] * (name in row["ratios"])
    lines = []
    for n in row["medians"][names[0]]:
        line = [f"{int(n):,}"]
        for name in names:
            median = row["medians"][name].get(n)
            ratio = row["ratios"].get(name, {}).get(n)
            line.append(seconds(median) if median is not None else "")
            if name in row["ratios"]:
                line.append(f"{ratio:.2f}" if ratio is not None else "")
        lines.append(line)
    return table(head, lines)


def environment_lines(data: dict[str, Any]) -> str:
    """Return the list of what the figures depend on."""
    lines = [f"- {key}: {value}" for key, value in data.items() if not isinstance(value, dict)]
    return "\n".join(lines)


def parts_text(results: Results) -> list[str]:
    """Return a chapter for each part that was measured."""
    bandwidth = results.data.get("copy_bandwidth", {}).get("bytes_a_second")
    text = []
    for part, title in (
        ("step", "One step with its learning rate"),
        ("compiled", "Beside torch.compile"),
        ("pipelines", "What surrounds a step"),
        ("model", "A whole training step"),
    ):
        rows = results.rows(part)
        if rows:
            text.append(f"## {title}")
        for case, row in rows.items():
            text.append(f"### {case}")
            if row.get("left_out"):
                text.append("Not measured, for it takes too long: " + ", ".join(row["left_out"]))
            for name, why in row.get("failed", {}).items():
                text.append(f"**Failed**: {name}: {why}")
            text.append(comparison(row, bandwidth if part in ("step", "compiled") else None))
    for case, row in results.rows("variants").items():
        text += [f"## Of the device's time: {case}", row["table"]]
    rows = results.rows("scaling")
    if rows:
        text.append("## Scaling\n\nMedians, and lines fitted through all sizes, errors relative.")
    for case, row in rows.items():
        lines = [
            [name, seconds(max(fit["intercept"], 0.0)), seconds(max(fit["slope"], 0.0))]
            for name, fit in row["fits"].items()
        ]
        text.append(f"### {row['kind'].capitalize()} time by {case}")
        text.append(growth(row))
        text.append(table(["contender", "a step", "each more"], lines))
    return text


def failures_text(results: Results) -> list[str]:
    """Return a chapter of what failed or was left out."""
    lines = [
        f"- {part}, {case}: {row['error']}"
        for part, rows in results.data["parts"].items()
        for case, row in rows.items()
        if "error" in row
    ]
    lines += [f"- {name}: {why}" for name, why in results.data.get("absent", {}).items()]
    return ["## Not measured\n\n" + "\n".join(lines)] if lines else []


def write(results: Results, out: Path, first: list[str] | None = None) -> None:
    """Write ``REPORT.md`` and the plots into a folder.

    Args:
        results: What was measured.
        out: The folder.
        first: Chapters that come before all others.
    """
    out.mkdir(parents=True, exist_ok=True)
    text = [f"# fused_warmup on {results.data['environment'].get('device', 'an unknown device')}"]
    text += first or []
    text += [
        "## Where\n\n" + environment_lines(results.data["environment"]),
        "Contenders took turns in one run, a step each. Times are medians with quartiles; *times "
        "ours* is the median of the ratios within a round. *Inside*: the optimizer's step between "
        "forward and backward passes. *Cold*: 48 MB of memory walked before each step.",
        *parts_text(results),
        *failures_text(results),
    ]
    pictures = plots.write(results, out)
    if pictures:
        text.append("## Plots\n\n" + "\n".join(f"![{name}]({name})" for name in pictures))
    (out / "REPORT.md").write_text("\n\n".join(text) + "\n")
