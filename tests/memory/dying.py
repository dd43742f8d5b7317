"""Cases for the runner itself."""

import ctypes
from collections.abc import Callable


def nothing() -> None:
    """Passes."""


def fail() -> None:
    raise AssertionError("as it should")


def die() -> None:
    ctypes.string_at(0)


CASES: dict[str, Callable[[], object]] = {
    "fine": nothing,
    "raises": fail,
    "dies": die,
    "goes_on": nothing,
}


def warm_up() -> None:
    """Needs nothing."""
