"""The variants that benchmarks/cuda_variants measures, on a machine without a GPU."""

import pytest
import torch
from ptx.kernels import NVCC, Kernels, build
from support import same_bits

from benchmarks.cuda_variants import measured, variants
from benchmarks.cuda_variants.library import LR, MOMENTUM, WEIGHT_DECAY, Steps
from benchmarks.cuda_variants.measured import CHECKED, Timing
from fused_warmup import SGD

EVERYWHERE = [(0, 2**64 - 1, True)]
# Each macro other than it is built, all at once, as the PTX takes a minute to build.
ALL_DIFFERENT = variants.Variant(
    "all different",
    {
        "BLOCK_SIZE": 128,
        "MIN_THREADS": 512,
        "PACKS_IN_FLIGHT": 3,
        "SHARE_THREADS": 128,
        "WAVES": 2,
        "MIN_SHARE": 128,
        "STREAMING": 1,
    },
)


def test_every_macro_of_the_kernel_is_measured() -> None:
    macros = {name for variant in variants.VARIANTS for name in variant.macros}
    text = (variants.CSRC / "cuda" / "tuning.h").read_text()
    assert {f"#ifndef FW_{name}" in text for name in macros | set(ALL_DIFFERENT.macros)} == {True}
    assert text.count("#ifndef") == len(macros) == len(ALL_DIFFERENT.macros)


@pytest.mark.skipif(NVCC is None, reason="nvcc, of the cuda toolkit, is not installed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_another_shape_gives_the_same_bits(tmp_path, dtype) -> None:
    variants.compile_host(ALL_DIFFERENT, tmp_path / "variant.so")
    kernels = Kernels(build(macros=[flag.removeprefix("-D") for flag in ALL_DIFFERENT.flags]))
    ours, theirs = CHECKED.make("cpu", dtype), CHECKED.make("cpu", dtype)
    step = Steps(tmp_path / "variant.so", ours, resident_blocks=5)
    assert (step.n_blocks, step.block_size) == (10, 128)
    options = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "backend": "reference"}
    reference = SGD(theirs, lr=LR, **options)
    for _ in range(3):
        order = list(range(step.n_blocks))
        what = (step.dtypes, order, step.block_size, step.shared_bytes, step.args.raw, EVERYWHERE)
        kernels.launch(*what)
        reference.step()
    assert int(step.t) == 3
    for p, q, buffer in zip(ours, theirs, step.momentum_buffers, strict=True):
        assert same_bits(p, q)
        assert same_bits(buffer, reference.state[q]["momentum_buffer"])


def test_the_table_names_the_best() -> None:
    names = [variant.name for variant in variants.VARIANTS[:2]]
    seconds = {(names[0], "a"): 2e-6, (names[1], "a"): 1e-6, (names[0], "b"): 4e-6}
    text = measured.table([Timing(*key, value) for key, value in seconds.items()])
    assert text == (
        "| variant | a, us | b, us | ratio |\n"
        "| --- | --- | --- | --- |\n"
        f"| {names[0]} | 2.0 | **4.0** | 1.000 |\n"
        f"| {names[1]} | **1.0** | - | 0.500 |\n\n"
        f"Best of all: {names[1]}, 0.500 of as built."
    )
