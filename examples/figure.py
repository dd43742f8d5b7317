"""The figure of the demo: what each warm-up does to one training, and over a band of rates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

# Okabe and Ito's palette, told apart by colour-blind readers; line styles and markers help too.
STYLES = {
    "no warm-up": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "constant": {"color": "#E69F00", "linestyle": "-.", "marker": "^"},
    "gradual": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "small batch": {"color": "#444444", "linestyle": ":", "marker": ""},
}
CHANCE = 90.0


def draw(
    path: Path,
    title: str,
    lrs: Mapping[str, Sequence[float]],
    train_errors: Mapping[str, Sequence[Sequence[float]]],
    band: Mapping[str, Mapping[float, Sequence[float]]],
    target: Sequence[float],
    target_label: str,
    headline_lr: float,
) -> None:
    """Write the figure as a PNG.

    Args:
        path: The file; its folder is made where missing.
        title: Title of the whole.
        lrs: Learning rate at each step of the training at ``headline_lr``, by variant.
        train_errors: Its training errors in percent by variant: one sequence of steps per seed.
        band: Final test errors in percent by variant and peak rate, one per seed.
        target: Final test errors in percent of the small batch, one per seed.
        target_label: What the small batch is called.
        headline_lr: The peak rate of the panels on the left.
    """
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    figure.suptitle(title, fontsize=13)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.05))
    top, bottom = left.subplots(2, 1, sharex=True, height_ratios=(1, 2))

    for variant, values in lrs.items():
        style = {**STYLES[variant], "marker": ""}
        top.plot(values, label=variant, drawstyle="steps-post", linewidth=2, **style)
    top.legend(loc="upper right")
    top.set_ylabel("learning rate")
    top.set_title(f"One training: peak learning rate {headline_lr:g}", fontsize=11)

    for variant, seeds in train_errors.items():
        style = {**STYLES[variant], "marker": ""}
        errors = np.asarray(seeds)
        bottom.plot(errors.mean(0), linewidth=2, **style)
        bottom.plot(errors.T, color=style["color"], linewidth=0.8, alpha=0.35)
    bottom.set_title("bold: mean over seeds, thin: each seed", fontsize=10, color="#555555")
    bottom.set_ylabel("training error of the minibatch (%)")
    bottom.set_xlabel("step (minibatches of the large size)")
    bottom.set_ylim(0, 100)

    axes = right.subplots()
    axes.axhspan(min(target), max(target), color=STYLES["small batch"]["color"], alpha=0.13, lw=0)
    axes.axhline(mean(target), label=target_label, linewidth=2, color="#444444", linestyle=":")
    axes.axhline(CHANCE, color="#AAAAAA", linewidth=1, zorder=0)
    axes.text(min(band["gradual"]), CHANCE * 1.02, "chance", color="#777777", va="bottom")
    axes.axvline(headline_lr, color="#AAAAAA", linewidth=1, zorder=0)
    axes.text(headline_lr, 2.1, " linearly scaled rate", color="#777777", va="bottom")
    # Markers of the variants stand side by side, so that none hides another.
    for variant, shift in zip(band, (0.975, 1.0, 1.025), strict=True):
        style = STYLES[variant]
        rates = shift * np.array(list(band[variant]))
        points = list(band[variant].values())
        axes.plot(rates, [mean(p) for p in points], label=variant, linewidth=2, **style)
        for rate, seeds in zip(rates, points, strict=True):
            axes.scatter([rate] * len(seeds), seeds, s=16, color=style["color"], alpha=0.45, lw=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(2, 130)
    axes.set_xticks(list(band["gradual"]))
    axes.set_yticks([2, 3, 5, 10, 20, 30, 50, 100])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("peak learning rate")
    axes.set_ylabel("final test error (%)")
    axes.set_title("The whole band of rates: lines are means, dots are seeds", fontsize=11)
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.9))

    for each in (top, bottom, axes):
        each.grid(alpha=0.25)
        each.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
