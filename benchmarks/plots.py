"""Plots of saved results: ratios, bandwidth, and how time grows."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .results import Results
from .step import YARDSTICK


def write(results: Results, out: Path) -> list[str]:
    """Write the plots for which there are figures; return their file names.

    Without matplotlib there are none.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    names = []
    drawings: dict[str, Callable[[Any, Results], bool]] = {
        "ratios.png": ratios,
        "bandwidth.png": bandwidth,
        "tensors.png": lambda axes, found: growth(axes, found, "number of tensors"),
        "tensors_cold.png": lambda axes, found: growth(axes, found, "number of tensors, cold"),
        "elements.png": lambda axes, found: growth(axes, found, "number of elements"),
    }
    for name, draw in drawings.items():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 5), layout="constrained")
        if draw(figure.add_subplot(), results):
            figure.savefig(out / name, dpi=110)
            names.append(name)
    return names


def _kind(row: dict[str, Any]) -> str:
    return "device" if row.get("ratios", {}).get("device") else "total"


def ratios(axes: Any, results: Results) -> bool:
    """Draw each contender's time over ours as bars, a cluster for each case."""
    rows = {
        case: row["ratios"][_kind(row)]
        for case, row in results.rows("step").items()
        if row.get("ratios")
    }
    names = list(dict.fromkeys(name for found in rows.values() for name in found))
    names = [name for name in names if name != YARDSTICK and not name.startswith("ours")]
    if not names:
        return False
    for i, name in enumerate(names):
        at = [
            k + 0.8 * (i + 0.5) / len(names) - 0.4 for k, r in enumerate(rows.values()) if name in r
        ]
        found = [r[name] for r in rows.values() if name in r]
        heights = [f["median"] for f in found]
        spread = [
            [max(f["median"] - f["q1"], 0) for f in found],
            [max(f["q3"] - f["median"], 0) for f in found],
        ]
        axes.bar(at, heights, 0.8 / len(names), yerr=spread, label=name)
    axes.axhline(1, color="black", linewidth=1)
    axes.set(yscale="log", ylabel="time over ours (above 1: ours is faster)")
    axes.set_xticks(range(len(rows)), [textwrap.fill(case, 14) for case in rows], fontsize=9)
    axes.legend(fontsize=9)
    return True


def bandwidth(axes: Any, results: Results) -> bool:
    """Draw the fraction of the bandwidth that each contender reaches.

    Of a copy's on a GPU, of a pass in place on a CPU.
    """
    measured = results.data.get("copy_bandwidth", {}).get("bytes_a_second")
    bars: dict[str, float] = {}
    for case, row in results.rows("step").items():
        yardstick = row["times"].get(YARDSTICK, {}).get("total", {}).get("median")
        for name, times in row["times"].items():
            if name == YARDSTICK:
                continue
            if measured and "device" in times and row["elements"] >= 10**6:
                bars[f"{case}: {name}"] = row["bytes"] / times["device"]["median"] / measured
            elif yardstick:
                bars[f"{case}: {name}"] = yardstick / times["total"]["median"]
    if not bars:
        return False
    colors = ["tab:blue" if ": ours" in name else "tab:gray" for name in bars]
    axes.barh(list(bars), list(bars.values()), color=colors)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=1)
    axes.tick_params(axis="y", labelsize=9)
    axes.figure.set_figheight(1.5 + 0.2 * len(bars))
    axes.set_xlabel("fraction of the bandwidth measured in the same run; ours in blue")
    return True


def growth(axes: Any, results: Results, case: str) -> bool:
    """Draw time against size on logarithmic axes."""
    row = results.rows("scaling").get(case)
    if row is None:
        return False
    for name, medians in row["medians"].items():
        axes.plot([int(n) for n in medians], list(medians.values()), marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel=case, ylabel=f"{row['kind']} time of a step, s")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    return True
