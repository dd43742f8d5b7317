"""All options together in Triton's interpreter; for the native kernels optim/test_matrix.py."""

import cases  # noqa: F401  makes the interpreter exact
import pytest
from support import WHOLE, same_bits, tensors_of
from support import matrix as m

SHAPES = ((3,), (17, 8))
EACH = [(kind, storage) for kind in m.KINDS[1:] for storage in m.STORAGE]


@pytest.mark.parametrize(("kind", "storage"), EACH if WHOLE else EACH[::6], ids=str)
def test_all_options_together(kind, storage):
    """A step takes a second in the interpreter: a few of the matrix, of which a fifth is all."""
    for options in m.fifth(kind, storage)[:: 1 if WHOLE else 12]:
        ours, reference = (
            m.trained(options, storage, SHAPES, name) for name in ("triton", "reference")
        )
        assert all(map(same_bits, tensors_of(ours), tensors_of(reference))), options
