"""Installs a built wheel as a user would, out of any compiler's reach, and tests what is installed.

    make test-wheel         or: python tests/clean_install.py [--torch torch==2.13.0] dist

Takes from the folder the wheel for the Python that runs it. The virtual environment is new, holds
torch and at first nothing else (no NumPy, no matplotlib), and lies outside of the source tree, as
the working folder does. Then come the packages that the tests need, and a part of the tests.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "nvcc")
NEEDED_TO_TEST = ("pytest", "hypothesis", "mpmath", "numpy", "expecttest")
TESTS = (
    "optim/test_amp.py",
    "backend/test_cpu_half.py",
    "step/test_moves.py",
    "optim/test_optimizer.py",
    "step/test_plan.py",
    "schedules/test_schedules.py",
    "step/test_torch_releases.py",
)

ONE_STEP = """
import re, sys
import torch, fused_warmup

site, version = sys.argv[1:]
assert fused_warmup.__file__.startswith(site), fused_warmup.__file__
assert fused_warmup.__version__ == version, fused_warmup.__version__
weight = torch.ones(100_000, requires_grad=True)  # enough for every thread
weight.grad = torch.ones_like(weight)
opt = fused_warmup.SGD([weight], lr=0.5, schedule=fused_warmup.linear_warmup(2, start=0.5))
opt.step()
assert weight.eq(0.75).all() and opt.steps_applied == 1
assert type(opt._plan.parts[0]).__name__ == "CpuPlan", opt._plan.parts
# Two copies of OpenMP's runtime would be two pools of threads, each as large as the machine.
mapped = re.findall(r"/\\S*lib(?:gomp|omp|iomp)\\S*", open("/proc/self/maps").read())
assert len(set(mapped)) == 1, mapped
print("one OpenMP runtime:", mapped[0])
"""


class CleanInstall:
    """A virtual environment in a folder of its own, and commands that see nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=True)
        self.bin = folder / "venv" / "bin"
        self.away = folder / "away"
        self.away.mkdir()
        # A home of its own: no cache there holds what was compiled earlier.
        self.env = {"HOME": str(self.away), "PATH": str(self.bin), "LANG": "C.UTF-8"}
        found = {name: shutil.which(name, path=self.env["PATH"]) for name in COMPILERS}
        assert not any(found.values()), found

    def pip(self, *arguments: str) -> None:
        """Run pip, which still sees the settings of whoever runs this."""
        command = [self.bin / "python", "-m", "pip", "--disable-pip-version-check", *arguments]
        subprocess.run(command, cwd=self.away, check=True)

    def run(self, *command: str, expected: int = 0) -> str:
        """Run a command of the environment; return what it printed, errors included."""
        name, *arguments = command
        print("$", *(word if "\n" not in word else "..." for word in command), flush=True)
        done = subprocess.run(
            [self.bin / name, *arguments],
            cwd=self.away,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, flush=True)
        assert done.returncode == expected, f"status {done.returncode}, {expected} was expected"
        return done.stdout

    def check_commands(self) -> None:
        """What a user tries first, with torch alone."""
        site = self.run("python", "-c", "import sysconfig; print(sysconfig.get_path('platlib'))")
        self.run("python", "-c", ONE_STEP, site.strip(), version())
        assert "cpu          yes: native kernel" in self.run("fused-warmup", "info")
        verdicts = self.run("fused-warmup", "doctor")
        assert re.search(r"^cpu +cpu +trust ", verdicts, re.MULTILINE)
        assert "DO NOT TRUST" not in verdicts
        plot = ("fused-warmup", "plot", "linear_warmup(100).then(cosine(900))")
        assert "1001 steps" in self.run(*plot)
        assert "pip install matplotlib" in self.run(*plot, "--png", "schedule.png", expected=2)

    def check_tests(self, names: list[str]) -> None:
        """A part of the tests, copied so that the package in the source tree is out of sight."""
        copy = self.away / "tests"
        shutil.copytree(ROOT / "tests", copy)
        shutil.copy(ROOT / "pyproject.toml", self.away)
        files = [str(copy / name) for name in names]
        self.run("python", "-m", "pytest", "-p", "no:cacheprovider", *files)


def version() -> str:
    """The version in the source tree."""
    text = (ROOT / "fused_warmup" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found
    return found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dist", type=Path, help="folder of the wheels")
    parser.add_argument("--torch", default="torch", help="what to install as torch")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="files in tests to run")
    options = parser.parse_args()
    began = time.monotonic()
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as folder:
        clean = CleanInstall(Path(folder).resolve())
        clean.pip("install", "-q", options.torch)
        # Without an index: torch, just installed, must be all that the wheel asks for.
        built = ("--no-index", "--only-binary", ":all:", "--find-links", options.dist.resolve())
        clean.pip("install", "-q", *map(str, built), f"fused-warmup=={version()}")
        clean.check_commands()
        clean.pip("install", "-q", *NEEDED_TO_TEST)
        clean.check_tests(list(options.tests))
    print(f"the wheel passed on Python {sys.version.split()[0]}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
