"""The variants that benchmarks/cuda_variants measures, on a machine without a GPU."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support import PATIENCE, same_bits, whole
from support.ptx import kernels as ptx
from support.ptx.kernels import NVCC, Kernels, build

from benchmarks.cuda_variants import machine_code, measured, variants
from benchmarks.cuda_variants.library import LR, MOMENTUM, WEIGHT_DECAY, Steps
from benchmarks.cuda_variants.measured import CHECKED, Measured, Timing
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


def test_the_table_names_the_best_and_what_is_missing() -> None:
    first, second, third = (variant.name for variant in variants.VARIANTS[:3])
    timings = [
        Timing(first, "a", 2e-6, 1.0),
        Timing(second, "a", 1e-6, 0.5),
        Timing(third, "a", 1.5e-6, 0.3),
        Timing(first, "b", 4e-6, 1.0),
        Timing(second, "b", 5e-6, 1.25),
    ]
    text = measured.table(Measured(timings, {"another": "does not compile"}))
    assert text == (
        "| variant | a, us | b, us | ratio |\n"
        "| --- | --- | --- | --- |\n"
        f"| {first} | 2.0 (1.000) | **4.0 (1.000)** | 1.000 |\n"
        f"| {second} | **1.0 (0.500)** | 5.0 (1.250) | 0.791 |\n"
        f"| {third} | 1.5 (0.300) | - | 0.300 |\n\n"
        f"Best of all: {second}, 0.791 of as built.\n\n"
        "Not measured, another: does not compile"
    )


def test_a_bad_variant_costs_itself_and_an_error_what_comes_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU that is played here."""
    names = [variant.name for variant in variants.VARIANTS]

    def compile_library(variant: variants.Variant, arch: int, target: Path) -> None:
        if variant.name == names[1]:
            raise subprocess.CalledProcessError(1, "nvcc")

    class Sampler:
        def sampler(self, *_: object) -> Callable[[], float]:
            return lambda: 1e-6

    def steps(*_: object) -> Callable[[], None]:
        if len(made) == 2 * (len(names) - 2):
            raise RuntimeError("an illegal memory access was encountered")
        made.append(1)
        return lambda: None

    made: list[int] = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(measured, "compile_library", compile_library)
    monkeypatch.setattr(measured, "differences", lambda path, _: "variant2." in path.name)
    monkeypatch.setattr(measured, "DeviceTimer", Sampler)
    monkeypatch.setattr(measured, "Steps", steps)
    monkeypatch.setattr(measured, "sets_for", lambda _: 1)
    sets = [SimpleNamespace(name=name, n_elements=1, make=lambda *_: []) for name in "abc"]
    monkeypatch.setattr(measured, "SETS", [(each, torch.float32) for each in sets])
    found = measured.measure(seconds=0.0)
    left = [names[0], *names[3:]]
    assert [(t.variant, t.set_name) for t in found.timings] == [(n, s) for s in "ab" for n in left]
    assert list(found.faults) == [names[1], names[2], "all that is missing"]
    assert "illegal memory access" in measured.table(found)
