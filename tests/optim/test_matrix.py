"""All options together in the native kernels: beside torch's own pieces, and the reference.

See support/matrix.py for the options and support/pieces.py for torch's SGD, copies and lerp.
"""

from typing import Any

import pytest
import torch
from support import models, parameter, same_bits, set_grads, tensors_of
from support.matrix import KINDS, STEPS, STORAGE, Storage, cases, trained
from support.pieces import Pieces

from fused_warmup import LARS

SHAPES = ((3,), (17, 8))  # one tensor of a part of LARS's lanes, one of more


def pieces(options: dict[str, Any], storage: Storage) -> Pieces:
    (dtype, grad_dtype), _ = storage
    params = [parameter(p, grad_dtype) for p in models(*SHAPES, dtype=dtype)]
    theirs = Pieces(params, options)
    for t in range(STEPS):
        set_grads(params, t)
        theirs.step([p.grad for p in params])
    return theirs


def assert_equals_pieces(opt: Any, theirs: Pieces) -> None:
    """To the bit, but for LARS, whose norms torch adds up in another order.

    A rate may then be a neighbour among the float32s, and a rounding to half go the other way.
    """
    options = theirs.options
    for p, q, wide, ema in zip(
        opt.param_groups[0]["params"], theirs.params, theirs.wide, theirs.emas, strict=True
    ):
        state = opt.state[p]
        assert ("ema" in state) == ("ema_decay" in options)
        assert ("master_param" in state) == options["master_weights"]
        rounded = torch.float32 if options["master_weights"] else p.dtype
        pairs = [(p, q, p.dtype)]
        pairs += [(state["ema"], ema, rounded)] if "ema" in state else []
        pairs += [(state["master_param"], wide, rounded)] if "master_param" in state else []
        for ours, expected, dtype in pairs:
            assert ours.dtype == expected.dtype
            tolerance = 8 * torch.finfo(dtype).eps if isinstance(opt, LARS) else 0.0
            torch.testing.assert_close(
                ours.detach(), expected.detach(), rtol=tolerance, atol=tolerance, msg=str(options)
            )


@pytest.mark.parametrize("storage", STORAGE, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_all_options_together(kind, storage, emulate_with) -> None:
    references = []
    for options in cases(kind, storage):
        reference = trained(options, storage, SHAPES, "reference")
        references.append((options, tensors_of(reference)))
        assert_equals_pieces(reference, pieces(options, storage))
    for kernel in ("cpu", "cuda"):
        if kernel == "cuda":
            emulate_with(None)
        for options, expected in references:
            ours = trained(options, storage, SHAPES, "cpu")
            assert all(map(same_bits, tensors_of(ours), expected)), (kernel, options)
