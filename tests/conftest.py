"""Settings that hold for every test, and fixtures that several modules share."""

import os
from collections.abc import Callable

# Read when torch is imported, below. Threads of OpenMP that have nothing to do would else spin for
# a while, and take the processor from the other processes that run tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import HealthCheck, settings
from support.ptx.kernels import NVCC, SOURCE, Kernels, build

from fused_warmup import _C, _backend

# Nothing may fail because the machine is busy.
STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# What must pass runs the same inputs every time. `make fuzz` looks for others; what it finds
# becomes an @example of the property.
settings.register_profile("gate", STEADY, derandomize=True)
settings.register_profile("fuzz", STEADY, max_examples=1000, print_blob=True)
settings.load_profile("gate")


@pytest.fixture(scope="session")
def ptx() -> Kernels:
    """The CUDA kernels as nvcc compiled them, made to run on the CPU; see support/ptx/."""
    if NVCC is None:
        pytest.skip("nvcc, of the cuda toolkit, is not installed")
    if not SOURCE.exists():
        pytest.skip("the sources of the CUDA kernel are not here")
    return Kernels(build())


@pytest.fixture
def emulate_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list]:
    """Makes backend="cpu" run the CUDA kernel; returns a list that gets each plan made.

    ``launch`` is what `EmulatedPlan.launch_with` takes.
    """

    def install(launch: Callable[..., None] | None, resident_blocks: int = 7) -> list:
        plans: list = []
        real = _backend.make_plan

        def make_plan(name: str, *, schedules: list, **what: object) -> object:
            if name != "cpu":
                return real(name, schedules=schedules, **what)
            packed = [each.pack() for each in schedules]
            plans.append(_C.EmulatedPlan(resident_blocks, schedules=packed, **what))
            plans[-1].launch_with(launch)
            return plans[-1]

        monkeypatch.setattr(_backend, "make_plan", make_plan)
        return plans

    return install


@pytest.fixture(params=["body", "ptx"])
def emulate(request: pytest.FixtureRequest, emulate_with) -> Callable[..., list]:
    """The same, once for the kernel's body in C++ and once for its PTX."""
    launch = request.getfixturevalue("ptx").launch if request.param == "ptx" else None
    return lambda resident_blocks=7: emulate_with(launch, resident_blocks)
