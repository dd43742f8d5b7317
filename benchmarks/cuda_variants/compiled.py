"""What each variant is made of: registers, threads, loads in flight. Needs nvcc, but no GPU."""

import tempfile
from pathlib import Path

from . import machine_code
from .variants import VARIANTS, Variant, compile_cubin

KERNELS = {"UniformIffE": "float32", "UniformINS_8bfloat16": "bfloat16"}
REGISTERS = 65536  # of a multiprocessor
MAX_THREADS = 2048


def describe(variant: Variant, arch: int) -> list[str]:
    """Return a row for each of `KERNELS`."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "sgd.cubin")
        parts = machine_code.read_report(compile_cubin(variant, arch, cubin))
        codes = {code.name: code for code in machine_code.read(cubin)}
    block_size = variant.macros.get("BLOCK_SIZE", 256)
    rows = []
    for key, dtype in KERNELS.items():
        (name,) = (name for name in codes if key in name)
        part = parts[name]
        loop = max(codes[name].loops(), key=lambda loop: loop.wide_loads)  # with momentum
        registers = machine_code.registers(part)
        rounded = -(-registers // 8) * 8  # as they are allotted
        blocks = min(REGISTERS // (rounded * block_size), MAX_THREADS // block_size)
        elements = loop_elements(variant, dtype)
        spilled = "yes" if machine_code.spills(part) else "no"
        in_flight = loop.loads_in_flight * 16 * blocks * block_size / 1024
        rows.append(
            f"| {variant.name} | {dtype} | {registers} | {spilled} | {blocks} x {block_size} | "
            f"{loop.loads_in_flight} | {in_flight:.0f} | {loop.longest_turn / elements:.1f} |"
        )
    return rows


def loop_elements(variant: Variant, dtype: str) -> int:
    """Return how many elements a thread updates in a turn of the loop."""
    packs = variant.macros.get("PACKS_IN_FLIGHT", 2)
    return packs * (4 if dtype == "float32" else 8)


def table(arch: int = 90) -> str:
    """Return a Markdown table over all variants."""
    lines = [
        "| variant | dtype | registers | spills | blocks of a multiprocessor | loads in flight "
        "| KiB in flight | instructions an element |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for variant in VARIANTS:
        lines += describe(variant, arch)
    return "\n".join(lines)
