"""The command line: ``python -m fused_warmup``; see `fused_warmup._cli`."""

from ._cli import info, main

__all__ = ["info", "main"]

if __name__ == "__main__":
    main()
