"""Where a release of torch lacks what the native plan likes to ask, slower answers do as well."""

import os
import subprocess
import sys

import pytest
from support import PATIENCE

STEPS = """
import torch
{before}
import fused_warmup

def run(backend):
    torch.manual_seed(0)
    params = [torch.randn(n, requires_grad=True) for n in (1, 5, 300)] + [
        torch.randn(4, 6).t().requires_grad_()]
    opt = fused_warmup.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01, backend=backend)
    for step in range(6):
        for i, p in enumerate(params):
            p.grad = None if (step, i) == (2, 1) else torch.randn_like(p)
        if step == 3:
            params[2].data = params[2].data.clone()
        if step == 4:
            buffer = opt.state[params[2]]["momentum_buffer"]
            buffer.data = buffer.data.clone()
        version = params[0]._version
        opt.step()
        assert params[0]._version > version
    return params

for ours, reference in zip(run("cpu"), run("reference"), strict=True):
    assert torch.equal(ours, reference)
from fused_warmup import _C
print("equal", _C.reads_libtorch(), _C.reads_torch_words())
"""


# Its own objects tell nothing without a call: here, a tensor whose memory is somebody else's.
NO_WORDS = "torch.frombuffer = lambda *args, **kwargs: torch.zeros(2)"

# As in a program that has run for a while: one bit of a new tensor is what its memory was before.
USED_MEMORY = """
import ctypes, random
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
seeded = random.Random(1)
used = [libc.malloc(n) for n in [184, 192, 200] * 400]
for each in used[::2]:
    ctypes.memset(each, seeded.choice([0, 255]), 184)
    libc.free(ctypes.c_void_p(each))
"""

# Whichever of the two ways to a tensor's pointer this release has.
NO_POINTERS = """
import ctypes
if not hasattr(ctypes.CDLL("libtorch_python.so"), "torch_tensor_from_pyobject"):
    del torch._C._aoti
else:
    torch.Tensor.data_ptr = lambda self: 0
"""


@pytest.mark.parametrize(
    ("before", "asks", "reads"),
    [
        pytest.param("", True, True, id="as it is"),
        pytest.param("torch.__version__ = '9.9.9'", True, True, id="unknown release"),
        pytest.param(USED_MEMORY, True, True, id="used memory"),
        pytest.param(NO_WORDS, True, False, id="no words"),
        pytest.param(NO_POINTERS, False, False, id="no pointers"),
        pytest.param("torch._neg_view = lambda tensor: tensor", False, False, id="another answer"),
    ],
)
def test_a_step_is_the_same(before: str, asks: bool, reads: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STEPS.format(before=before)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (0, f"equal {asks} {reads}\n"), done.stderr
