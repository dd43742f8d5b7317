"""The shapes that the builders of fused_warmup.schedules make, as pictures.

`python docs/plot_schedules.py` draws docs/schedules.png. The gallery of the documentation, which is
made anew by each `make docs`, draws a curve for each of its expressions.
"""

import html
import io
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from fused_warmup import get_schedule, large_minibatch, schedules
from fused_warmup.schedules import (
    Schedule,
    constant,
    constant_warmup,
    cosine,
    cosine_restarts,
    cosine_warmup,
    cyclic,
    exponential,
    exponential_warmup,
    inverse_sqrt,
    linear,
    linear_warmup,
    multi_step,
    one_cycle,
    polynomial,
    warmup_stable_decay,
)

STEPS = 1000
INK = "#010203"  # stands for the page's text colour until the picture is in the page
FAMILIES: dict[str, dict[str, Schedule]] = {
    "warm-ups": {
        "constant_warmup(300, factor=0.1)": constant_warmup(300, factor=0.1).then(constant()),
        "linear_warmup(300)": linear_warmup(300).then(constant()),
        "cosine_warmup(300)": cosine_warmup(300).then(constant()),
        "exponential_warmup(300, start=0.01)": exponential_warmup(300, start=0.01).then(constant()),
    },
    "decays": {
        "linear_warmup(100).then(cosine(900))": linear_warmup(100).then(cosine(900)),
        "linear(1000)": linear(1000),
        "polynomial(1000, power=2)": polynomial(1000, power=2),
        "exponential(0.997)": exponential(0.997),
        "multi_step([300, 600, 800], 0.1)": multi_step([300, 600, 800], 0.1),
    },
    "cycles and policies": {
        "cosine_restarts(143, mult=2)": cosine_restarts(143, mult=2),
        "one_cycle(1000)": one_cycle(1000),
        "cyclic(125)": cyclic(125),
        "linear_warmup(100).then(inverse_sqrt(100))": linear_warmup(100).then(inverse_sqrt(100)),
        "warmup_stable_decay(100, 600, 300)": warmup_stable_decay(100, 600, 300),
    },
    "large_minibatch(8192, dataset_size=1_281_167)": {
        "ImageNet in 90 epochs at 32 x 0.1": large_minibatch(8192, dataset_size=1_281_167).schedule,
    },
}


def schedule_of(expression: str) -> Schedule:
    """The schedule that an expression of the gallery makes; it may use every builder."""
    known = {name: getattr(schedules, name) for name in schedules.__all__}
    others = {"get_schedule": get_schedule, "large_minibatch": large_minibatch}
    found = eval(expression, {**known, **others})
    if not isinstance(found, Schedule):
        kind = type(found).__name__
        raise TypeError(f"{expression!r} makes a {kind}, the gallery draws Schedules")
    return found


def inline_svg(schedule: Schedule, steps: int, title: str, of: str = "lr") -> str:
    """A curve for an HTML page, in the page's own text colour; css may style ``.curve``.

    Args:
        schedule: What is drawn.
        steps: How much of it.
        title: What a screen reader says.
        of: What the schedule is a factor on.
    """
    # The salt makes ids of one picture differ from those of the others on the page.
    style = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9.5}
    with plt.rc_context(style):
        figure, axis = plt.subplots(figsize=(6.4, 1.9), layout="constrained")
        (curve,) = axis.plot(range(steps), schedule(range(steps)), linewidth=1.8)
        curve.set_gid("curve")
        axis.set(xlabel="step", ylabel=f"factor on {of}", ylim=(-0.04, None), xlim=(0, steps))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        for text in (axis.xaxis.label, axis.yaxis.label):
            text.set_color(INK)
        axis.tick_params(colors=INK)
        axis.spines[:].set_color(INK)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = svg.replace('id="curve"', 'class="curve"')
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg) width="[^"]*" height="[^"]*"', r"\1", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace(
        "<svg", f'<svg class="schedule" role="img" aria-label="{html.escape(title)}"', 1
    )


def main() -> None:
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for axis, (title, family) in zip(axes.flat, FAMILIES.items(), strict=True):
        steps = range(STEPS) if len(family) > 1 else range(0, 14_200, 20)
        for label, schedule in family.items():
            axis.plot(steps, schedule(steps), label=label, linewidth=1.6)
        axis.set(title=title, xlabel="step", ylabel="factor on lr", ylim=(-0.03, 1.08))
        # Below the axes, where it covers no curve.
        axis.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize=8, frameon=False
        )
        axis.grid(alpha=0.25)
    figure.savefig(Path(__file__).parent / "schedules.png", dpi=110)


if __name__ == "__main__":
    main()
