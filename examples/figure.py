"""The figure of the demo: what each warm-up does to one training, and over a band of rates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

# Okabe and Ito's palette, told apart by colour-blind readers; line styles and markers help too.
STYLES = {
    "no warm-up": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "constant": {"color": "#E69F00", "linestyle": "-.", "marker": "^"},
    "gradual": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "small batch": {"color": "#444444", "linestyle": ":", "marker": ""},
    "gradual, 800": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "LARS, 800": {"color": "#009E73", "linestyle": "-", "marker": "D"},
    "gradual, 1600": {"color": "#0072B2", "linestyle": "--", "marker": "o"},
    "LARS, 1600": {"color": "#009E73", "linestyle": "--", "marker": "D"},
}
CHANCE = 90.0
# In points, on a page 6.2 inches wide: a phone of 390 pixels shows them 10 pixels high.
FONT = {"font.size": 13, "axes.titlesize": 13, "figure.titlesize": 14, "legend.fontsize": 12}


def draw_mean_and_spread(
    axes: Axes,
    steps: Sequence[int],
    seeds: Sequence[Sequence[float]],
    variant: str,
    floor: float = 0.0,
) -> None:
    """Draw the mean over seeds as a line in a band one standard deviation wide to each side.

    Args:
        axes: Where.
        steps: The horizontal coordinates.
        seeds: One sequence of values per seed.
        variant: Whose they are: the name in the legend and the style.
        floor: Where the band ends below.
    """
    style = {**STYLES[variant], "marker": ""}
    values = np.asarray(seeds)
    middle, spread = values.mean(0), values.std(0)
    axes.plot(steps, middle, label=variant, linewidth=2, **style)
    low, high = np.maximum(middle - spread, floor), np.minimum(middle + spread, 100)
    axes.fill_between(steps, low, high, color=style["color"], alpha=0.18, linewidth=0)


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
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(6.2, 8.4), layout="constrained")
        figure.suptitle(title)
        rates, errors, over_rates = figure.subplots(3, 1, height_ratios=(1, 1.6, 3))
        draw_training(rates, errors, lrs, train_errors, headline_lr)
        draw_band(over_rates, band, target, target_label, headline_lr)
        handles, labels = over_rates.get_legend_handles_labels()
        figure.legend(  # below all panels, where it covers no curve
            handles[2:] + handles[:2],
            labels[2:] + labels[:2],
            loc="outside lower center",
            ncols=2,
            frameon=False,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)


def draw_training(
    top: Axes,
    bottom: Axes,
    lrs: Mapping[str, Sequence[float]],
    train_errors: Mapping[str, Sequence[Sequence[float]]],
    peak_lr: float,
) -> None:
    """Draw the rate of a training above its error, on one axis of steps."""
    for variant, values in lrs.items():
        style = {**STYLES[variant], "marker": ""}
        top.plot(values, label=variant, drawstyle="steps-post", linewidth=2, **style)
    top.set_ylabel("learning\nrate")
    top.set_title(f"At a peak rate of {peak_lr:g}: mean ± spread of the seeds")
    for variant, seeds in train_errors.items():
        draw_mean_and_spread(bottom, range(len(seeds[0])), seeds, variant)
    bottom.set_ylabel("training\nerror (%)")
    bottom.set_xlabel("step")
    bottom.set_ylim(0, 100)
    top.sharex(bottom)
    top.tick_params(labelbottom=False)
    for axes in (top, bottom):
        tidy(axes)


def draw_band(
    axes: Axes,
    band: Mapping[str, Mapping[float, Sequence[float]]],
    target: Sequence[float],
    target_label: str,
    headline_lr: float,
) -> None:
    """Draw the final errors over all peak rates, beside those of the small batch."""
    grey = STYLES["small batch"]["color"]
    axes.axhspan(
        min(target), max(target), color=grey, alpha=0.16, lw=0, label=f"{target_label}: all seeds"
    )
    label = f"{target_label}: mean"
    axes.axhline(mean(target), linewidth=2, color=grey, linestyle=":", label=label)
    axes.axhline(CHANCE, color="#AAAAAA", linewidth=1, zorder=0)
    axes.text(min(band["gradual"]), CHANCE * 1.03, "chance", color="#777777", va="bottom")
    axes.axvline(headline_lr, color="#AAAAAA", linewidth=1, zorder=0)
    axes.text(headline_lr, 2.1, "linearly scaled ", color="#777777", va="bottom", ha="right")
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
    axes.set_title("All peak rates: means, and each seed as a dot")
    tidy(axes)


def tidy(axes: Axes) -> None:
    """Draw a faint grid, and no frame above and to the right."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
