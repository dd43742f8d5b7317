"""The native extension, or the reason that it is missing."""

from functools import cache
from types import ModuleType


@cache
def load_native() -> tuple[ModuleType | None, Exception | None]:
    """Return the extension module and None, or None and the error that importing it raised.

    torch is imported first: the extension then shares its OpenMP runtime, so that both draw on one
    pool of threads and follow `torch.set_num_threads`.
    """
    import torch  # noqa: F401

    try:
        from fused_warmup import _C
    except ImportError as error:
        return None, error
    return _C, None
