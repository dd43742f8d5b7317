"""``convert``: the schedule of another framework's config, and the Python that builds it."""

import argparse
import re
import textwrap
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import schedules
from ..conversions import configs
from ..conversions.configs.reading import mapping_of
from ..conversions.super_gradients import SuperGradientsRecipe, from_super_gradients
from ..schedules import Schedule
from ..schedules.spelling import spell
from .terminal import printable

LONGEST = 2_000
"""Most characters of a schedule that is written out; a longer one is built by the converter."""
WIDTH = 100


@dataclass(frozen=True)
class Framework:
    """Whose config it is.

    Args:
        name: What people call it.
        convert: The function that reads its config.
        options: What that takes from the command line, by the names of both.
        needs: Those of them without which it cannot be called.
        marks: Keys of which one at least stands in its YAML or JSON.
    """

    name: str
    convert: Callable[..., Any]
    options: Mapping[str, str]
    needs: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()


FRAMEWORKS = {
    "super_gradients": Framework(
        "SuperGradients",
        from_super_gradients,
        {"steps_per_epoch": "steps_per_epoch"},
        ("steps_per_epoch",),
        frozenset({"training_hyperparams", "initial_lr", "lr_mode", "warmup_mode"}),
    ),
    "mmengine": Framework(
        "MMEngine",
        configs.from_mmengine,
        {"steps_per_epoch": "epoch_length", "lr": "lr", "epochs": "max_epochs"},
        (),
        frozenset({"param_scheduler"}),
    ),
    "detectron2": Framework(
        "Detectron2", configs.from_detectron2, {}, (), frozenset({"SOLVER", "_BASE_"})
    ),
    "deepspeed": Framework(
        "DeepSpeed", configs.from_deepspeed, {"lr": "lr"}, (), frozenset({"scheduler"})
    ),
    "ultralytics": Framework(
        "Ultralytics",
        configs.from_ultralytics,
        {"steps_per_epoch": "batches_per_epoch"},
        ("steps_per_epoch",),
        frozenset({"lr0", "lrf", "warmup_bias_lr"}),
    ),
    "torchvision": Framework(
        "torchvision",
        configs.from_torchvision,
        {"steps_per_epoch": "steps_per_epoch", "script": "script"},
        ("steps_per_epoch",),
    ),
}


def recognised(config: str) -> Framework:
    """Return whose config a file is, by its ending and its keys.

    Raises:
        OSError: It cannot be read.
        ValueError: No framework's keys are in it, or those of several.
    """
    path = Path(config)
    if path.suffix == ".py":
        return FRAMEWORKS["mmengine"]
    keys = mapping_of(path, "any framework").keys()
    found = [each for each in FRAMEWORKS.values() if keys & each.marks]
    if len(found) != 1:
        whose = " and ".join(each.name for each in found) or "no framework that is known"
        raise ValueError(
            f"{path.name} has keys of {whose}: say whose it is with --from, one of "
            f"{', '.join(FRAMEWORKS)}"
        )
    return found[0]


def converted(framework: Framework, config: str, given: Mapping[str, Any]) -> tuple[Any, str]:
    """Return what a converter makes of a config, and the call that makes it.

    Raises:
        ValueError: It needs an option that is not given, or has no use for one that is; whatever
            the converter refuses.
    """
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is not None and name not in framework.options:
            raise ValueError(f"{framework.name} has no use for {flag}={value}: leave it out")
        if value is None and name in framework.needs:
            raise ValueError(f"{framework.name} counts epochs: pass {flag}, the updates of one")
    options = {
        theirs: given[name] for name, theirs in framework.options.items() if given[name] is not None
    }
    try:
        with warnings.catch_warnings(action="ignore"):  # of what str() says, too
            result = framework.convert(config, **options)
    except (TypeError, ValueError) as error:
        said = str(error)
        for name, theirs in framework.options.items():
            said = said.replace(f"pass {theirs}=", f"pass --{name.replace('_', '-')}")
        raise ValueError(said) from None
    arguments = [ascii(config), *(f"{name}={value!a}" for name, value in options.items())]
    return result, f"fused_warmup.{framework.convert.__name__}({', '.join(arguments)})"


def python(result: Any, call: str) -> str:
    """Return the Python that builds the schedules of a converted config, with comments."""
    texts = {name: _spelt(value) for name, value in _parts(result).items() if value is not None}
    lines, names = [], set()
    for name, text in texts.items():
        if text is None:
            lines.append(f"{name} = converted.{name}")
        else:
            lines += _assigned(name, text)
            names |= set(re.findall(r"\b[A-Za-z]\w*(?=[(.])", text)) & set(schedules.__all__)
    head = []
    is_recipe = isinstance(result, SuperGradientsRecipe)
    if is_recipe or None in texts.values():
        head = ["import fused_warmup", "", f"converted = {call}"]
    if is_recipe:
        lines.append("build_optimizer = converted.optimizer  # of a model")
    if names:
        head.insert(bool(head), f"from fused_warmup.schedules import {', '.join(sorted(names))}")
    wrapped = (textwrap.wrap(printable(line), WIDTH - 2) for line in str(result).splitlines())
    said = [line for lines in wrapped for line in lines]
    return "\n".join([*(f"# {line}" for line in said), *head, *[""] * bool(head), *lines])


def _assigned(name: str, text: str) -> list[str]:
    """An assignment in one line, or with a line for each link of a chain of calls."""
    depth, links = 0, [""]
    for i, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and (text.startswith((".then", ".lasting"), i) or text.startswith("* ", i)):
            links.append("")
        links[-1] += character
    if len(f"{name} = {text}") <= WIDTH or len(links) == 1:
        return [f"{name} = {text}"]
    return [f"{name} = (", *(f"    {link.rstrip()}" for link in links), ")"]


def _parts(result: Any) -> dict[str, Any]:
    """What to build, by its name in the result."""
    names = ["lr", "schedule"]
    if isinstance(result, configs.ConvertedConfig):
        names += ["momentum", "momentum_schedule"]
        names += ["bias_schedule", "weight_decay"] * isinstance(result, configs.UltralyticsConfig)
    elif len(result.initial_lr) > 1:
        names = ["initial_lr", "schedules"]
    return {name: getattr(result, name) for name in names}


def _spelt(value: Any) -> str | None:
    """A number, a schedule or schedules by their names as Python; None where that is too long."""
    if isinstance(value, Schedule):
        return spell(value, LONGEST)
    if isinstance(value, dict) and any(isinstance(each, Schedule) for each in value.values()):
        texts = {name: spell(each, LONGEST) for name, each in value.items()}
        if None in texts.values():
            return None
        return f"{{{', '.join(f'{name!a}: {text}' for name, text in texts.items())}}}"
    return ascii(value)


def add_convert(commands: Any) -> None:
    """Add the command to the parser."""

    def run(options: argparse.Namespace) -> None:
        config, named = options.config, options.framework
        framework = recognised(config) if named is None else FRAMEWORKS[named]
        names = ("steps_per_epoch", "lr", "epochs", "script")
        print(
            python(*converted(framework, config, {name: getattr(options, name) for name in names}))
        )

    parser = commands.add_parser(
        "convert",
        help="print the schedule of another framework's config, and the Python that builds it",
        epilog="A .py config is read, never run: literals, dict(...), arithmetic and names that it "
        "assigns.",
    )
    parser.add_argument(
        "config",
        help="a SuperGradients recipe, a config of MMEngine (.py), Detectron2 (YAML) or DeepSpeed "
        "(JSON), the args.yaml of Ultralytics, or torchvision's options in quotes",
    )
    parser.add_argument(
        "--from", dest="framework", choices=FRAMEWORKS, help="whose it is (found by its keys)"
    )
    parser.add_argument(
        "--steps-per-epoch", type=int, help="updates of an epoch; Ultralytics: its batches"
    )
    parser.add_argument("--lr", type=float, help="base learning rate, where the config has none")
    parser.add_argument("--epochs", type=int, help="MMEngine: epochs, where the config has none")
    parser.add_argument(
        "--script", help="torchvision: classification (if not said), detection or segmentation"
    )
    parser.set_defaults(run=run)
