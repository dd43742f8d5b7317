"""Draws docs/schedules.png: the shapes that the builders of fused_warmup.schedules make.

python docs/plot_schedules.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from fused_warmup import large_minibatch
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


def main() -> None:
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.5), layout="constrained")
    for axis, (title, family) in zip(axes.flat, FAMILIES.items(), strict=True):
        steps = range(STEPS) if len(family) > 1 else range(0, 14_200, 20)
        for label, schedule in family.items():
            axis.plot(steps, schedule(steps), label=label, linewidth=1.6)
        axis.set(title=title, xlabel="step", ylabel="factor on lr", ylim=(-0.03, 1.08))
        axis.legend(fontsize=7.5, framealpha=0.85)
        axis.grid(alpha=0.25)
    figure.savefig(Path(__file__).parent / "schedules.png", dpi=110)


if __name__ == "__main__":
    main()
