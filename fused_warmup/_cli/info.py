"""``info``: versions, and which backends can run."""

import argparse
import platform
from typing import Any

import torch

from .._backend import backends


def info() -> str:
    """Return versions and each backend's state on this machine, one a line.

    Example:
        >>> print(info().splitlines()[-1].split(":")[0])
        reference    yes
    """
    from .. import __version__

    lines = [
        f"fused_warmup {__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}"
    ]
    lines += [
        f"{each.name:<12} {'yes' if each.available else 'no'}: {each.reason}"
        for each in backends().values()
    ]
    return "\n".join(lines)


def add_info(commands: Any) -> None:
    """Add the command to the parser."""

    def run(_: argparse.Namespace) -> None:
        print(info())

    commands.add_parser("info", help="versions, and which backends can run here").set_defaults(
        run=run
    )
