"""What keeps one test's CUDA error from failing all that come after it."""

import os

import pytest
import torch


def is_context_dead() -> bool:
    """Whether an earlier error is met again by every call, until the process ends."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


failed = False


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    global failed
    failed = report.failed or (failed and report.when != "setup")


# Last: the report, with the error's own words, has gone to whoever collects them.
@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish(nodeid: str) -> None:
    """End the process once its context is dead; pytest-xdist goes on with another one."""
    if not failed or not is_context_dead():
        return
    if "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(3)
    pytest.exit(f"the CUDA context is dead after {nodeid}: what is left was not run", 3)
