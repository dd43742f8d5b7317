"""The command line options of torchvision's reference scripts."""

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from ...schedules.checks import listed, shown, whole
from ...schedules.decay import constant, cosine, exponential, polynomial
from ...schedules.products import product
from ...schedules.schedule import Schedule
from ...schedules.stairs import multi_step, step
from ...schedules.warmup import constant_warmup, linear_warmup
from .converted import ConvertedConfig
from .reading import Options, mapping_of, read_literal

OPTIMIZER = {"opt": "sgd", "momentum": 0.9, "weight_decay": 1e-4}
WARMUP = {"lr_warmup_epochs": 0, "lr_warmup_decay": 0.01}
DEFAULTS: dict[str, dict[str, Any]] = {
    "classification": OPTIMIZER
    | WARMUP
    | {
        "lr": 0.1,
        "epochs": 90,
        "lr_scheduler": "steplr",
        "lr_warmup_method": "constant",
        "lr_step_size": 30,
        "lr_gamma": 0.1,
        "lr_min": 0.0,
    },
    "detection": OPTIMIZER
    | {
        "lr": 0.02,
        "epochs": 26,
        "lr_scheduler": "multisteplr",
        "lr_steps": (16, 22),
        "lr_gamma": 0.1,
    },
    "segmentation": OPTIMIZER | WARMUP | {"lr": 0.01, "epochs": 30, "lr_warmup_method": "linear"},
}
"""Defaults of the scripts' options, as far as they move the rates or are options of SGD."""
SHORT = {"--wd": "--weight-decay", "-b": "--batch-size", "-j": "--workers"}
Script = Literal["classification", "detection", "segmentation"]


def from_torchvision(
    arguments: Any, steps_per_epoch: int, *, script: Script = "classification"
) -> ConvertedConfig:
    """Convert the options of torchvision's reference ``train.py``.

    With L = ``steps_per_epoch``, E = ``--epochs``, W = ``--lr-warmup-epochs`` and d =
    ``--lr-warmup-decay``; the classification script changes the rate once an epoch e, the
    segmentation script at every step t:

    - classification: for e < W, ``d + (1 - d) e / W`` (linear) or d (constant); then, with
      ``u = e - W``, ``--lr-gamma ** (u // --lr-step-size)`` (steplr), ``--lr-gamma ** u``
      (exponentiallr) or ``m + (1 - m)(1 + cos(pi u / (E - W))) / 2`` with m = ``--lr-min`` over
      ``--lr`` (cosineannealinglr).
    - segmentation: the same warm-up over L W steps, then ``(1 - u / (L (E - W))) ** 0.9`` with
      ``u = t - L W``.
    - detection: ``--lr-gamma`` at each of ``--lr-steps`` (multisteplr), or the cosine over E
      epochs; times the warm-up of its engine, from 1/1000 to 1 in ``min(1000, L - 1)`` steps.

    The first three factors of segmentation with L=100 and W=1 are 0.01, 0.0199 and 0.0298.

    Args:
        arguments: The script's ``args``, a mapping of its names, or the command line, as a list
            or in one string: ``"--lr 0.5 --lr-scheduler cosineannealinglr"``.
        steps_per_epoch: Updates per epoch, ``len(data_loader)``.
        script: Which of the scripts; the defaults of absent options are its own.

    Returns:
        ``schedule`` of E epochs on ``lr``, with the momentum, weight decay and Nesterov's momentum
        if ``--opt`` is sgd or sgd_nesterov. ``left`` holds the other options that are set.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: An unknown script, scheduler or warm-up; a value out of its range; a misspelt
            name.

    Source:
        pytorch/vision, references/classification/train.py, references/detection/train.py and
        engine.py, references/segmentation/train.py, as of torchvision 0.24.

    Example:
        >>> rates = from_torchvision("--lr 0.5 --lr-step-size 2 --epochs 6", steps_per_epoch=2)
        >>> [round(rates.lr_at(t), 4) for t in range(12)]
        [0.5, 0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.05, 0.005, 0.005, 0.005, 0.005]
    """
    if script not in DEFAULTS:
        raise ValueError(f"script must be one of {list(DEFAULTS)}, got {shown(script)}: use one")
    given = _named(arguments)
    options = Options(f"torchvision's {script} script", given, DEFAULTS[script])
    _refuse_short(given, DEFAULTS[script])
    batches, epochs = whole("steps_per_epoch", steps_per_epoch, 1), options.count("epochs", 1)
    lr = options.number("lr", exclusive=True)
    schedule = SCRIPTS[script](options, epochs, batches, lr).lasting(epochs * batches)
    optimizer = str(options["opt"]).lower()
    momentum, decay = options.number("momentum"), options.number("weight_decay")
    is_sgd = optimizer.startswith("sgd")
    used = {"weight_decay": decay, "nesterov": "nesterov" in optimizer} if is_sgd else {}
    others = {} if is_sgd else {"opt": optimizer, "momentum": momentum, "weight_decay": decay}
    return ConvertedConfig(
        f"torchvision's {script} script",
        schedule,
        lr=lr,
        momentum=momentum if is_sgd else None,
        options=used,
        left=others | options.left(unset=False),
    )


def _named(arguments: Any) -> Mapping[str, Any]:
    """Options by their names with underscores, whatever they came as."""
    if isinstance(arguments, str):
        try:
            arguments = shlex.split(arguments)
        except ValueError as error:
            raise ValueError(
                f"{shown(arguments)} is no command line ({error}): write --name value"
            ) from None
    if isinstance(arguments, Sequence):
        arguments = _of_command_line(arguments)
    given = mapping_of(arguments, "torchvision")
    return {str(name).lstrip("-").replace("-", "_"): value for name, value in given.items()}


def _refuse_short(given: Iterable[str], known: Collection[str]) -> None:
    """Raise where a name begins one that is known: argparse takes it for that, if for no other."""
    for name in given:
        longer = [each for each in known if each != name and each.startswith(name)]
        if longer and name not in known:
            flags = " or ".join(f"--{each.replace('_', '-')}" for each in longer)
            raise ValueError(
                f"--{name.replace('_', '-')} is short for {flags}, which is not known here: write "
                "it out"
            )


def _of_command_line(words: Sequence[Any]) -> dict[str, Any]:
    """What follows each option: one value, several, or none for a flag."""
    found: dict[str, list[Any]] = {}
    option = None
    for word in map(str, words):
        value = read_literal(word)
        if word.startswith("-") and isinstance(value, str):
            name, given, value = word.partition("=")
            option = SHORT.get(name, name)
            found[option] = [read_literal(value)] if given else []
        elif option is None:
            raise ValueError(f"{shown(word)} belongs to no option: write --name value")
        else:
            found[option].append(value)
    return {
        name: values if name == "--lr-steps" or len(values) > 1 else next(iter(values), True)
        for name, values in found.items()
    }


def _after_warmup(options: Options, main: Schedule, unit: int) -> Schedule:
    """The warm-up of ``lr_warmup_epochs``, of ``unit`` steps each, and what follows."""
    low = options.number("lr_warmup_decay")
    method = options.choice("lr_warmup_method", ("linear", "constant"), fold=True)
    steps = options.count("lr_warmup_epochs") * unit
    if not steps:
        return main
    rise = linear_warmup(steps, low) if method == "linear" else constant_warmup(steps, low)
    return rise.then(main)


def _epochs_after_warmup(options: Options, epochs: int) -> int:
    left = epochs - options.count("lr_warmup_epochs")
    if left < 1:
        raise ValueError(
            f"lr_warmup_epochs={options['lr_warmup_epochs']} leaves none of the {epochs} epochs, "
            "at least one is needed: make it shorter"
        )
    return left


def _classification(options: Options, epochs: int, batches: int, lr: float) -> Schedule:
    name = options.choice(
        "lr_scheduler", ("steplr", "cosineannealinglr", "exponentiallr"), fold=True
    )
    left = _epochs_after_warmup(options, epochs)
    gamma = options.number("lr_gamma")
    size, low = options.count("lr_step_size", 1), options.number("lr_min") / lr
    main = {
        "steplr": lambda: step(size, gamma),
        "cosineannealinglr": lambda: cosine(left, low),
        "exponentiallr": lambda: exponential(gamma),
    }[name]()
    return _after_warmup(options, main, 1).stretched(batches)


def _detection(options: Options, epochs: int, batches: int, lr: float) -> Schedule:
    name = options.choice("lr_scheduler", ("multisteplr", "cosineannealinglr"), fold=True)
    gamma, steps = options.number("lr_gamma"), options["lr_steps"]
    drops = [whole("lr_steps", each, 0) for each in listed("lr_steps", steps)]
    if name == "cosineannealinglr":
        main = cosine(epochs).stretched(batches)
    else:
        main = multi_step([each * batches for each in drops], gamma) if drops else constant()
    if batches == 1:
        raise ValueError(
            "steps_per_epoch=1 makes a warm-up of 0 steps, after which the script's rate stays at "
            "a thousandth: pass at least 2"
        )
    return product((linear_warmup(min(1000, batches - 1), 0.001), main))


def _segmentation(options: Options, epochs: int, batches: int, lr: float) -> Schedule:
    main = polynomial(_epochs_after_warmup(options, epochs) * batches, 0.9)
    return _after_warmup(options, main, batches)


SCRIPTS: dict[str, Callable[[Options, int, int, float], Schedule]] = {
    "classification": _classification,
    "detection": _detection,
    "segmentation": _segmentation,
}
