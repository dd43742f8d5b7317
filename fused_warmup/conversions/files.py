"""What users name is read within bounds: a file, and no more of it than anybody writes by hand."""

import stat
from pathlib import Path


def read_bounded(path: Path, max_bytes: int, bound: str, remedy: str) -> bytes:
    """Return what a file holds.

    Args:
        path: The file.
        max_bytes: How much it may hold.
        bound: The same in words, for the error.
        remedy: What to name in its place, for the error.

    Raises:
        OSError: It cannot be read.
        ValueError: It is a folder, a pipe or a device, or larger.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait, a device never end
        raise ValueError(f"{path} is no file: {remedy}")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path} is too large, {bound}: shorten it")
    return content
