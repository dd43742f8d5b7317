"""LARS's two kernels in Triton's interpreter, beside the reference to the bit."""

import cases  # noqa: F401  makes the interpreter exact
import pytest
import torch
from support import same_bits, tensors_of
from support.lars import EXTRAS, LARS_OPTIONS, trained

SHAPES = ((3,), (127,), (129,), (4200,), (8, 3, 3, 3))
PAIRS = [
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
    (torch.bfloat16, torch.float32),
    (torch.float32, torch.float16),
]


def assert_equal(options, *dtypes, **more):
    runs = [
        trained({"trust_coefficient": 0.1, **options}, *dtypes, backend=name, shapes=SHAPES, **more)
        for name in ("triton", "reference")
    ]
    assert all(map(same_bits, *map(tensors_of, runs)))
    assert type(runs[0]._plan.parts[0]).__name__ == "TritonPlan"


@pytest.mark.parametrize("options", LARS_OPTIONS[::23], ids=str)
def test_equals_the_reference_for_all_options(options):
    assert_equal(options, steps=2)


@pytest.mark.parametrize("dtypes", PAIRS, ids=str)
def test_equals_the_reference_for_all_dtypes(dtypes):
    assert_equal({"momentum": 0.9, "weight_decay": 0.01}, dtypes, steps=2, scale=1024.0)


@pytest.mark.parametrize("dtypes", PAIRS[1:3], ids=str)
def test_averages_and_masters(dtypes):
    options = {"momentum": 0.9, "weight_decay": 0.01, "ema_start": 1, **EXTRAS}
    assert_equal(options, dtypes, steps=2)


def test_a_skipped_step_changes_nothing():
    opt = trained({}, backend="triton", shapes=SHAPES[:2], steps=1)
    before = [t.detach().clone() for t in tensors_of(opt)]
    opt.found_inf = torch.tensor(1.0)
    opt.step()
    assert all(map(same_bits, tensors_of(opt), before))
