"""The command line: ``python -m fused_warmup``; see `fused_warmup.cli`."""

from .cli import info, main

__all__ = ["info", "main"]

if __name__ == "__main__":
    main()
