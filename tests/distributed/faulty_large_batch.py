"""examples/large_batch.py, in which rank 1 is killed once, in the middle of an epoch.

Run by torchrun in tests/distributed/test_distributed_faults.py.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_post_hook

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KILL_AFTER = int(os.environ["KILL_AFTER"])  # optimizer steps of this process

steps = 0


def count(*_: object) -> None:
    global steps
    steps += 1
    if steps == KILL_AFTER:
        os.kill(os.getpid(), signal.SIGKILL)


if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    register_optimizer_step_post_hook(count)

sys.path.insert(0, str(EXAMPLES))
runpy.run_path(str(EXAMPLES / "large_batch.py"), run_name="__main__")
