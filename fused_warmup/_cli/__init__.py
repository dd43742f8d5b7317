"""The command line: ``python -m fused_warmup``, ``fused-warmup`` once installed."""

import argparse
import sys
from collections.abc import Sequence

from .bench import add_bench
from .convert import add_convert
from .doctor import add_doctor
from .info import add_info, info
from .plot import add_plot
from .terminal import printable

__all__ = ["info", "main"]

LONGEST = 600
"""Most characters of an error."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` default to the process's own.

    Raises:
        SystemExit: With status 1 if a backend is not to be trusted, 2 for arguments that cannot
            be used, 0 after ``--help`` and ``--version``.
    """
    from .. import __version__

    parser = argparse.ArgumentParser(
        prog="fused-warmup",
        description="Draw schedules, look at what can run them, and measure what that is worth.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (add_info, add_plot, add_convert, add_doctor, add_bench):
        add(commands)
    options = parser.parse_args(arguments)
    try:
        status = options.run(options)
    except (ArithmeticError, MemoryError, OSError, RecursionError, TypeError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {one_line(error)}\n")
    if status:
        sys.exit(status)


def one_line(error: Exception) -> str:
    """Return what an error says, however long what it quotes is, without control characters."""
    text = printable(" ".join(str(error).split()) or type(error).__name__)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 200]} ... {text[-200:]}"
