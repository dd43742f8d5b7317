"""The large-batch experiment as torchrun runs it: whole, killed in mid-epoch, and resumed."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from support import PATIENCE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "large_batch.py"
FAULTY = ROOT / "tests" / "distributed" / "faulty_large_batch.py"


def torchrun(script: Path, *arguments: object, restarts: int = 0, **environment: str) -> str:
    """Run a script on two processes and return what it printed; kill all of it if it hangs."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", f"--max-restarts={restarts}"]
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    # Else a restarted rank may read the address of a rank that is gone (pytorch#135712).
    own["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    # Not a pipe: a worker that outlived the agent would keep it open, and us waiting.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, "--monitor-interval=0.1", str(script), *map(str, arguments)],
            env={**os.environ, **own, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            process.wait(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                process.terminate()  # the agent then stops its workers
                process.wait(timeout=PATIENCE)
        log.seek(0)
        output = log.read()
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, torchrun(EXAMPLE, "--quick", "--seeds", 1, "--out", folder)


def results_in(folder: Path) -> dict[str, dict[str, object]]:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.slow
def test_the_table_and_the_curves(undisturbed: tuple[Path, str]) -> None:
    folder, output = undisturbed
    assert "MNIST" in output
    for variant in ("small batch", "no warm-up", "constant", "gradual"):
        assert re.search(rf"^\| {variant} +\| +\d+ \| +0\.\d+ \| +\d+\.\d\d ± ", output, re.M)
    assert "1 seeds, 4 epochs, warm-ups of 2 epochs" in output
    assert "2 processes" in output
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    results = results_in(folder)
    # Four epochs of 4,000 images.
    assert results["small batch, seed 0"]["updates"] == 4 * 80
    assert results["gradual, seed 0"]["updates"] == 4 * 8
    assert len({result["weights"] for result in results.values()}) == 4


@pytest.mark.slow
def test_a_killed_rank_changes_nothing(undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    """SIGKILL in mid-epoch of the first training; torchrun restarts both ranks."""
    kill_after = 80 + 33
    arguments = ("--quick", "--seeds", 1, "--resume", "--out", tmp_path)
    output = torchrun(FAULTY, *arguments, restarts=1, KILL_AFTER=str(kill_after))
    assert "SIGKILL" in output or "exitcode  : -9" in output or "exitcode: -9" in output, output
    assert results_in(tmp_path) == results_in(undisturbed[0])


@pytest.mark.slow
def test_without_restarts_resume_goes_on_where_it_stopped(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    """The checkpoint alone: a fresh launch, in the warm-up of a later training, by itself."""
    arguments = ("--quick", "--seeds", 1, "--resume", "--out", tmp_path)
    kill_after = 4 * 80 + 8 + 3  # in the second epoch of the second training
    with pytest.raises(AssertionError):
        torchrun(FAULTY, *arguments, KILL_AFTER=str(kill_after))
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert list(saved["finished"]) == ["small batch, seed 0"]
    assert len(saved["current"]["result"]["test_errors"]) == 1
    output = torchrun(EXAMPLE, *arguments)
    assert "small batch, seed 0:" not in output  # it was finished
    assert results_in(tmp_path) == results_in(undisturbed[0])


@pytest.mark.slow
def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save(
        {"settings": {"epochs": 99, "seeds": 1}, "finished": {}, "current": None},
        tmp_path / "checkpoint.pt",
    )
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--quick", "--resume", "--out", tmp_path],
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"},
        check=False,
    )
    assert done.returncode == 1
    assert "leave out --resume" in done.stderr
