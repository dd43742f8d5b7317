"""How the work of a launch is cut into shares for a GPU, for the sets that are measured."""

import math

import pytest

from benchmarks import shapes
from fused_warmup import _C


@pytest.mark.parametrize("resident_blocks", [1, 7, 132 * 3])
@pytest.mark.parametrize(
    "shape_set",
    [shapes.RESNET50, shapes.one_large(268), shapes.GPT2, shapes.MANY_SMALL, shapes.ONE_ELEMENT],
    ids=lambda each: each.name,
)
def test_no_share_is_more_than_one_multiple_larger_than_another(shape_set, resident_blocks) -> None:
    """The step ends with the last share: 61 % late where one took all that was left over."""
    works = _C.share_sizes([math.prod(shape) for shape in shape_set.shapes], resident_blocks)
    assert max(works) - min(works) <= 64
    assert sum(works) >= shape_set.n_elements
    assert 1 <= len(works) <= 8 * resident_blocks
