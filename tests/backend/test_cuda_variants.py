"""The variants that benchmarks/cuda_variants measures, on a machine without a GPU."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from support import PATIENCE, same_bits, whole
from support.ptx import kernels as ptx
from support.ptx.kernels import NVCC, Kernels, build

from benchmarks.cuda_variants import machine_code, measured, variants
from benchmarks.cuda_variants.library import LR, MOMENTUM, WEIGHT_DECAY, Steps
from benchmarks.cuda_variants.measured import CHECKED, Timing
from fused_warmup import SGD

EVERYWHERE = [(0, 2**64 - 1, True)]
# Each macro other than it is built, all at once: a variant's PTX takes a quarter of a minute.
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
@pytest.mark.parametrize(
    "variant", [ALL_DIFFERENT, *whole(variants.VARIANTS)], ids=lambda v: v.name
)
def test_every_variant_gives_the_same_bits(tmp_path, variant, dtype) -> None:
    variants.compile_host(variant, tmp_path / "variant.so")
    kernels = Kernels(build(macros=[flag.removeprefix("-D") for flag in variant.flags]))
    ours, theirs = CHECKED.make("cpu", dtype), CHECKED.make("cpu", dtype)
    step = Steps(tmp_path / "variant.so", ours, resident_blocks=5)
    assert step.block_size == variant.macros.get("BLOCK_SIZE", 256)
    assert step.n_blocks == 5 * variant.macros.get("WAVES", 1)
    options = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "backend": "reference"}
    reference = SGD(theirs, lr=LR, **options)
    for _ in range(3):
        order = list(range(step.n_blocks))
        what = (step.block_size, step.shared_bytes, step.args.raw, EVERYWHERE)
        kernels.launch("sgd", step.dtypes, order, *what)
        reference.step()
    assert int(step.t) == 3
    for p, q, buffer in zip(ours, theirs, step.momentum_buffers, strict=True):
        assert same_bits(p, q)
        assert same_bits(buffer, reference.state[q]["momentum_buffer"])


def test_processes_that_need_a_library_build_it_once(tmp_path, monkeypatch) -> None:
    """Else one would read what another is in the middle of writing."""
    for name in ("csrc", "setup.py"):
        (tmp_path / name).symlink_to(ptx.ROOT / name)
    both_are_there, ran = threading.Barrier(2), []

    def run(command: list[str], check: bool) -> None:
        ran.append(command[0])
        time.sleep(0.01)
        Path(command[-1]).write_text("made")

    def one(_: int) -> str:
        both_are_there.wait(PATIENCE)
        return ptx.build().read_text()

    monkeypatch.setattr(ptx, "ROOT", tmp_path)
    monkeypatch.setattr(ptx, "NVCC", "nvcc")
    monkeypatch.setattr(ptx.subprocess, "run", run)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == ["made", "made"]
    assert ran == ["nvcc", sys.executable, "g++"]


def test_the_longest_turn_of_a_loop_goes_around_what_branches_leave_out() -> None:
    lines = [
        "LDG.E.128 R0",
        "@P0 BRA 0x30",
        "BRA 0x50",
        "FMUL",
        "FADD",
        "STG.E.128 R0",
        "@P1 BRA 0x0",
    ]
    code = machine_code.Code("", tuple((16 * i, f"{line} ") for i, line in enumerate(lines)))
    (loop,) = code.loops()
    assert (len(loop.code), loop.longest_turn) == (7, 6)


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
