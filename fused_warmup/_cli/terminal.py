"""What a terminal can show of a text that may come from anybody."""

import sys


def printable(text: str) -> str:
    """Replace what would move the cursor, change colours or not be encoded.

    Example:
        >>> printable("head\\x1b[2J")
        'head\\\\x1b[2J'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    encoding = sys.stdout.encoding or "ascii"
    return shown.encode(encoding, "backslashreplace").decode(encoding)
