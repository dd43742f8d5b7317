"""LARS's CUDA kernels on a machine without a GPU: their bodies in C++, and the PTX nvcc makes."""

import pytest
import torch
from support import DTYPE_PAIRS, same_bits, tensors_of
from support.lars import EXTRAS, LARS_OPTIONS, trained

from fused_warmup import LARS

TRUST = {"trust_coefficient": 0.1}
SHAPES = ((3,), (127,), (129,), (4097,), (8, 3, 3, 3))


def assert_equal(options, dtypes=(torch.float32, torch.float32), **more) -> LARS:
    more = {"shapes": SHAPES, "steps": 2, **more}
    ours = trained({**TRUST, **options}, dtypes, backend="cpu", **more)
    reference = trained({**TRUST, **options}, dtypes, backend="reference", **more)
    assert all(map(same_bits, tensors_of(ours), tensors_of(reference)))
    assert ours.steps_applied == reference.steps_applied
    return ours


@pytest.mark.parametrize("options", LARS_OPTIONS[::17], ids=str)
def test_equals_reference_for_all_options(emulate, options) -> None:
    plans = emulate()
    assert_equal(options)
    assert plans


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_equals_reference_for_all_dtypes(emulate, dtypes, offset) -> None:
    emulate()
    assert_equal({"momentum": 0.9, "weight_decay": 0.01}, dtypes, scale=1024.0, offset=offset)


@pytest.mark.parametrize("dtypes", [DTYPE_PAIRS[0], DTYPE_PAIRS[3], DTYPE_PAIRS[6]], ids=str)
def test_averages_and_masters(emulate, dtypes) -> None:
    emulate()
    options = {"momentum": 0.9, "weight_decay": 0.01, **EXTRAS}
    assert_equal(options, dtypes, scale=1024.0, offset=1)


@pytest.mark.parametrize("blocks", [1, 2, 50])
def test_norms_do_not_depend_on_the_number_of_blocks(emulate, blocks) -> None:
    plans = emulate(resident_blocks=blocks)
    ours = assert_equal({"momentum": 0.9, "weight_decay": 0.01})
    assert plans[0].n_blocks <= blocks
    squares = ours._plan._norms._squares[torch.device("cpu")]
    assert bool((squares[2:] > 0).all())


def test_norms_do_not_depend_on_the_order_of_blocks(emulate) -> None:
    plans = emulate(resident_blocks=3)
    expected = trained(TRUST, backend="reference", steps=2)
    for order in ((2, 1, 0), (1, 2, 0)):
        params = [p for group in expected.param_groups for p in group["params"]]
        ours = trained(
            TRUST, backend="cpu", steps=2, before=lambda o=order: plans[-1].set_block_order([*o])
        )
        own = [p for group in ours.param_groups for p in group["params"]]
        assert all(map(same_bits, own, params))


def test_a_skipped_step_changes_nothing(emulate) -> None:
    emulate()
    opt = trained(TRUST, backend="cpu", steps=1)
    before = [t.detach().clone() for t in tensors_of(opt)]
    opt.found_inf = torch.tensor(1.0)
    opt.step()
    assert all(map(same_bits, tensors_of(opt), before))


def test_blocks_may_interleave(ptx, emulate_with, monkeypatch) -> None:
    """Whichever warp takes a tensor's last ticket, the sums are the same."""
    monkeypatch.setattr(ptx, "interleave", 0)
    emulate_with(ptx.launch, 3)
    for seed in range(3):
        ptx.interleave = seed
        assert_equal({"momentum": 0.9}, steps=1, shapes=((9000,), (200,)))
