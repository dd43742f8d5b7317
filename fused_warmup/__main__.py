"""The command line: ``python -m fused_warmup info``."""

import argparse
import platform
from collections.abc import Sequence

import torch

from . import __version__
from .backend import backends


def info() -> str:
    """Return versions and each backend's state on this machine, one a line.

    Example:
        >>> print(info().splitlines()[-1].split(":")[0])
        reference    yes
    """
    lines = [
        f"fused_warmup {__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}"
    ]
    lines += [
        f"{each.name:<12} {'yes' if each.available else 'no'}: {each.reason}"
        for each in backends().values()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` default to the process's own."""
    parser = argparse.ArgumentParser(prog="fused_warmup", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("info", help="versions, and which backends can run here").set_defaults(
        run=lambda _: print(info())
    )
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
