"""Breaks the kernels in one place at a time and expects the tests to notice.

    make mutants            or: python tests/mutants.py [NAME ...]

Works in a copy of the tree: each mutant patches one line, rebuilds what depends on it and runs the
tests of that kernel, which must fail. A mutant that survives is a gap in the tests. Some minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).parent.parent
CPU = (
    "tests/backend/test_cpu_kernel.py",
    "tests/optim/test_amp.py",
    "tests/optim/test_optimizer.py",
    "tests/backend/test_backend.py",
)
CUDA = ("tests/backend/test_cuda_kernel.py",)
MOMENTUM = ("tests/optim/test_momentum_schedule.py", *CUDA)
TRITON = ("tests/backend/test_triton.py",)


@dataclass(frozen=True)
class Mutant:
    """One wrong line: in ``file``, ``old`` (which stands there once) becomes ``new``."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


TRITON_KERNEL = "fused_warmup/_backend/triton/kernel.py"
TRITON_UPDATE = "fused_warmup/_backend/triton/update.py"
TRITON_RATES = "fused_warmup/_backend/triton/rates.py"
MUTANTS = [
    # the counter's increment
    Mutant("cpu-counter", "csrc/cpu/plan.cpp", "*step_.t = next_count(t)", "*step_.t = t + 2", CPU),
    Mutant("cpu-advance", "csrc/cpu/plan.cpp", "if (advance) *step_.t", "*step_.t", CPU),
    Mutant("cuda-counter", "csrc/cuda/kernel.h", "= next_count(t)", "= t", CUDA),
    Mutant("triton-counter", TRITON_KERNEL, "(t_ptr, next_count(t))", "(t_ptr, t)", TRITON),
    Mutant(
        "triton-ticket", TRITON_KERNEL, "tl.num_programs(0) - 1:", "tl.num_programs(0) - 2:", TRITON
    ),
    # found_inf: a sum over devices, so not a flag of 1
    Mutant("cpu-found-inf", "csrc/cpu/plan.cpp", "found_inf != 0.0f", "found_inf == 1.0f", CPU),
    Mutant("cuda-found-inf", "csrc/cuda/kernel.h", "found_inf != 0.0f", "found_inf == 1.0f", CUDA),
    Mutant(
        "triton-found-inf",
        TRITON_KERNEL,
        "found_inf != 0, other=0.0) != 0.0",
        "found_inf != 0, other=0.0) == 1.0",
        TRITON,
    ),
    # the mark of a parameter's own first applied step
    Mutant(
        "first-step-never-over",
        "csrc/launch/plan.h",
        "return first_step != nullptr && (*first_step == FIRST_STEP_NEVER || *first_step == t)",
        "return first_step != nullptr",
        CPU + CUDA,
    ),
    Mutant(
        "cuda-first-step-seen-by-one-warp",
        "csrc/launch/plan.h",
        "(*first_step == FIRST_STEP_NEVER || *first_step == t)",
        "*first_step == FIRST_STEP_NEVER",
        CUDA,
    ),
    Mutant(
        "cpu-first-step-not-marked",
        "csrc/cpu/plan.cpp",
        "own)) *entry.first_step = t",
        "own)) *entry.first_step = FIRST_STEP_NEVER",
        CPU,
    ),
    Mutant(
        "first-step-marked-without-momentum",
        "csrc/launch/plan.h",
        "first_step != nullptr && rates.momentum != 0 &&",
        "first_step != nullptr &&",
        MOMENTUM,
    ),
    Mutant("triton-first-step", TRITON_UPDATE, "| (mark == t)", "| (mark >= 0)", TRITON),
    # the group's index
    Mutant(
        "cpu-group",
        "csrc/cpu/plan.cpp",
        "kernel(entry, extras, groups_[group], step_, rates[group]",
        "kernel(entry, extras, groups_[group], step_, rates[0]",
        CPU,
    ),
    Mutant(
        "cpu-group-options",
        "csrc/cpu/plan.cpp",
        "kernel(entry, extras, groups_[group]",
        "kernel(entry, extras, groups_[0]",
        CPU,
    ),
    Mutant("cuda-group", "csrc/cuda/kernel.h", "rates[entry.group]", "rates[0]", CUDA),
    Mutant(
        "cuda-group-options",
        "csrc/cuda/kernel.h",
        "args.groups[entry.group]",
        "args.groups[0]",
        CUDA,
    ),
    Mutant(
        "triton-group",
        TRITON_KERNEL,
        "group = load_int32(entry + GROUP)",
        "group = unwritten * 0",
        TRITON,
    ),
    # the momentum's own schedule
    Mutant(
        "momentum-follows-the-rate",
        "csrc/launch/plan.h",
        "track == 1 ? group.momentum_schedule",
        "track == 1 ? group.schedule",
        MOMENTUM,
    ),
    Mutant(
        "momentum-of-0-fades-the-buffer",
        "csrc/cuda/kernel.h",
        "if (span.rates.momentum != 0)",
        "if (span.group.momentum != 0)",
        CUDA,
    ),
    Mutant(
        "triton-momentum",
        TRITON_RATES,
        "momentum *= tl.where((track == 1) &",
        "momentum *= tl.where((track == 0) &",
        TRITON,
    ),
    # the tail of a tensor, and the cuts inside it
    Mutant(
        "cpu-tail",
        "csrc/cpu/kernel.cpp",
        "end - i < BLOCK_SIZE ? end - i : BLOCK_SIZE",
        "BLOCK_SIZE < end - i ? BLOCK_SIZE : (end - i) / 8 * 8",
        CPU,
    ),
    Mutant("cpu-narrow-store", "csrc/cpu/kernel.cpp", "    param.close(i, n);\n", "", CPU),
    Mutant(
        "cuda-tail",
        "csrc/cuda/update.h",
        "for (int64_t i = done + thread; i < n;",
        "for (int64_t i = done + thread; i < n - 1;",
        CUDA,
    ),
    *(
        Mutant(
            f"{kernel}-last-share",
            "csrc/launch/line.h",
            "share < left_over ? share : left_over",
            "0",
            tests,
        )
        for kernel, tests in (("cpu", CPU), ("cuda", CUDA))
    ),
    *(
        Mutant(
            f"{kernel}-cut",
            "csrc/launch/line.h",
            "(inside < n_elements ? inside : n_elements)",
            "inside",
            tests,
        )
        for kernel, tests in (("cpu", CPU), ("cuda", CUDA))
    ),
    Mutant(
        "triton-tail",
        TRITON_UPDATE,
        "while start < end:",
        "while start < end - 1:",
        TRITON,
    ),
    # one element
    Mutant(
        "nesterov",
        "csrc/math/sgd.h",
        "options.nesterov ? fmadd(h.momentum,",
        "options.nesterov ? fmadd(h.grad_weight,",
        CPU + CUDA,
    ),
    Mutant(
        "maximize",
        "csrc/math/sgd.h",
        "options.maximize ? -grad",
        "options.maximize ? grad",
        CPU + CUDA,
    ),
]


def copy_tree(to: Path) -> None:
    """Copies the working tree, but for what git ignores."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in {name for name in names if name and (ROOT / name).is_file()}:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)


def build(tree: Path) -> None:
    environment = {**os.environ, "FUSED_WARMUP_CUDA": "0"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True)


def tests_pass(tree: Path, tests: tuple[str, ...]) -> bool:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode == 0


def survives(tree: Path, mutant: Mutant) -> bool:
    path = tree / mutant.file
    original = path.read_text()
    if original.count(mutant.old) != 1:
        raise SystemExit(
            f"mutant {mutant.name}: {mutant.old!r} stands {original.count(mutant.old)} times in "
            f"{mutant.file}, it must stand there once: update tests/mutants.py"
        )
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        build(tree)
        return tests_pass(tree, mutant.tests)
    finally:
        path.write_text(original)


def main(names: list[str]) -> int:
    unknown = sorted({*names} - {m.name for m in MUTANTS})
    if unknown:
        print(f"no mutant is called {', '.join(unknown)}: {', '.join(m.name for m in MUTANTS)}")
        return 2
    chosen = [m for m in MUTANTS if not names or m.name in names]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        build(tree)
        needed = tuple(sorted({test for m in chosen for test in m.tests}))
        if not tests_pass(tree, needed):
            print(f"{', '.join(needed)} fail without any mutant: mend that first")
            return 2
        alive = []
        for mutant in tqdm(chosen, unit="mutant"):
            if survives(tree, mutant):
                alive.append(mutant)
                tqdm.write(f"SURVIVED {mutant.name}: {mutant.file}: {mutant.new}")
            else:
                tqdm.write(f"killed   {mutant.name}")
    print(f"{len(chosen) - len(alive)} of {len(chosen)} mutants killed")
    return 1 if alive else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
