"""The benchmarks: that they measure what they say, and that nothing is lost when a part fails."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import PATIENCE

pytest.importorskip("tqdm", reason="tqdm, the benchmarks' progress bar, is not installed")

from benchmarks import __main__ as front
from benchmarks import (
    callgrind,
    check,
    contenders,
    device_time,
    gpu,
    gpu_checks,
    gpu_goals,
    gpu_tasks,
    measure,
    model,
    pipelines,
    shapes,
    step,
    trace,
    triton_launch,
)
from benchmarks.goals import CPU_GOALS
from benchmarks.results import ROOT, Results, Task

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("shape_set", "tensors", "elements"),
    [
        (shapes.RESNET50, 161, 25_557_032),
        (shapes.GPT2, 148, 124_439_808),
        (shapes.VIT_B16, 152, 86_567_656),
        (shapes.MANY_SMALL, 10_000, 640_000),
        (shapes.ONE_ELEMENT, 161, 161),
        (shapes.one_large(64), 1, 64_000_000),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_sets_are_those_of_the_models(shape_set: Any, tensors: int, elements: int) -> None:
    assert (shape_set.n_tensors, shape_set.n_elements) == (tensors, elements)


def test_contenders_take_turns_and_are_compared_within_a_round() -> None:
    calls: list[str] = []
    times = {"a": iter([1.0, 10.0, 2.0]), "b": iter([3.0, 30.0, 4.0])}

    def sampler(name: str) -> measure.Sampler:
        def sample() -> float:
            calls.append(name)
            return next(times[name])

        return sample

    found = measure.interleaved({n: sampler(n) for n in "ab"}, seconds=0, min_rounds=3)
    assert calls == list("ababab")
    assert measure.ratios(found, "a")["b"] == {"median": 3.0, "q1": 2.5, "q3": 3.0, "n": 3}
    assert measure.stats(found["a"]) == {"median": 2.0, "q1": 1.5, "q3": 6.0, "n": 3}


def test_each_contender_takes_turns_with_the_first_alone() -> None:
    calls: list[str] = []

    def sampler(name: str) -> measure.Sampler:
        return lambda: calls.append(name) or {"a": 1.0, "b": 2.0, "c": 3.0}[name]

    samplers = {name: sampler(name) for name in "bac"}
    samples, ratios = measure.against(samplers, "a", seconds=0, min_rounds=2)
    assert calls == list("ababacac")
    assert {name: len(own) for name, own in samples.items()} == {"a": 4, "b": 2, "c": 2}
    assert {name: own["median"] for name, own in ratios.items()} == {"b": 2.0, "c": 3.0}
    for base in ("none of them", "b"):
        samples, ratios = measure.against({"b": samplers["b"]}, base, seconds=0, min_rounds=2)
        assert (samples, ratios) == ({"b": [2.0, 2.0]}, {})


def test_only_the_step_itself_is_timed() -> None:
    clock = iter(range(100))
    calls: list[str] = []

    def noted(name: str) -> measure.Step:
        return lambda: calls.append(name)

    sample = measure.timer(noted("step"), noted("sync"), before=noted("before"), host=True)
    calls.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure.time, "perf_counter", lambda: calls.append("clock") or next(clock))
        sample()
    assert calls == ["sync", "before", "clock", "step", "clock", "sync"]


def test_walk_touches_more_than_caches_hold() -> None:
    walked = measure.walk()().untyped_storage().nbytes()
    assert walked == 48 * 2**20


def test_net_has_as_many_convolutions_as_resnet50() -> None:
    net = model.small_net(CPU)
    sizes = [p.numel() for p in net.parameters()]
    assert (len(sizes), sum(sizes)) == (159, 123_808)


def test_line_gives_small_and_large_sizes_their_say() -> None:
    sizes = [10, 100, 1000, 100_000]
    line = measure.fit_line(sizes, [5e-6 + 2e-9 * n for n in sizes])
    assert line == {"slope": pytest.approx(2e-9), "intercept": pytest.approx(5e-6)}


def test_all_contenders_follow_the_same_rate() -> None:
    def after(contender: contenders.Contender) -> list[torch.Tensor]:
        params = shapes.ShapeSet("", ((33,), (5, 7))).make(CPU)
        step = contender.build(params)
        for _ in range(8):
            step()
        return params

    found, _ = contenders.everyone(CPU)
    found = [each for each in found if "constant" not in each.name]
    expected = after(found[0])
    assert len(found) >= 7
    for each in found[1:]:
        for p, q in zip(after(each), expected, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_trace_counts_kernels_copies_and_waits() -> None:
    events = [
        {"cat": "user_annotation", "name": "steps under trace", "ts": 100, "dur": 100},
        {"cat": "kernel", "name": "b", "ts": 150, "dur": 20},
        {"cat": "kernel", "name": "a", "ts": 120, "dur": 10},
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD", "ts": 130, "dur": 5},
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 110, "dur": 1},
        {"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "ts": 160, "dur": 1},
        {"cat": "cuda_runtime", "name": "cudaDeviceSynchronize", "ts": 300, "dur": 1},
        {"ph": "M", "name": "process_name"},
    ]
    found = trace.read(events, steps=2)
    assert found.kernels == ("a", "b")
    assert (found.copies, found.syncs) == (1, ("cudaStreamSynchronize",))
    assert found.a_step()["busy"] == pytest.approx(17.5e-6)


class FakeEvent:
    now = 0.0  # of a clock that moves as it is told

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    @classmethod
    def pass_time(cls, seconds: float) -> None:
        cls.now += seconds

    def record(self) -> None:
        self.pass_time(1e-9)  # what came before took some time
        self.at = self.now

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: "FakeEvent") -> float:
        return 1e3 * (end.at - self.at)


@pytest.mark.parametrize("set_bytes", [1, 4 * 4096])
def test_device_timer_without_a_device(monkeypatch: pytest.MonkeyPatch, set_bytes: int) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda spins: FakeEvent.pass_time(spins * 1e-10))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(device_time, "l2_bytes", lambda: 1024)
    timer = device_time.DeviceTimer("cpu")
    sets = device_time.sets_for(set_bytes)  # a small set is flushed, a large one is alone enough
    assert sets == 1
    assert device_time.sets_for(3000) == 3
    steps = [lambda: FakeEvent.pass_time(2e-4)] * sets
    sample = timer.sampler(steps, 1, set_bytes)
    assert sample is not None
    assert sample() == pytest.approx(2e-4, rel=1e-4)
    assert timer.sampler(steps, device_time.QUEUE, set_bytes) is None
    assert device_time.copy_bandwidth(timer, (4096,), samples=3)["bytes"] == 8192


def test_failing_task_is_recorded_and_the_file_stays_whole(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    assert not results.run(Task("part", "bad", lambda: {}["nothing"]))
    assert results.run(Task("part", "good", lambda: {"x": 1}))
    again = Results.load(tmp_path / "results.json")
    assert "KeyError" in again.data["parts"]["part"]["bad"]["traceback"]
    assert set(again.rows("part")) == {"good"}


def test_quick_run_measures_reports_and_draws_everything(tmp_path: Path) -> None:
    assert front.main(["--quick", "--out", str(tmp_path)]) == 0
    results = Results.load(tmp_path / "results.json")
    assert set(results.data["parts"]) == {"step", "pipelines", "model", "scaling"}
    rows = [row for part in results.data["parts"].values() for row in part.values()]
    assert not [row for row in rows if "error" in row]
    assert results.data["environment"]["torch"] == torch.__version__
    speed = (tmp_path / "speed.md").read_text()
    assert speed.startswith("| one step | torch fused + `LambdaLR` | fused_warmup | times faster (")
    assert len(speed.splitlines()) == 7
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    report = (tmp_path / "REPORT.md").read_text()
    assert "| ours: cpu |" in report
    assert "| contender | total time |" in report
    assert "A loop of nothing but steps, which no training has: ours: cpu" in report
    kinds = {kind for row in results.data["parts"]["step"].values() for kind in row["ratios"]}
    assert kinds == {"total", "cold", "hot"}
    if importlib.util.find_spec("triton") is not None:
        assert "ours: triton" in results.rows("step")[triton_launch.CASE]["times"]
    for row in results.data["parts"]["model"].values():
        assert set(row["ratios"]) == {"inside", "total"}
    for row in results.data["parts"]["scaling"].values():
        assert set(row["ratios"]["torch fused + LambdaLR"]) == set(row["medians"]["ours: cpu"])
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "ratios.png",
        "tensors.png",
        "tensors_cold.png",
        "elements.png",
        "speed.png",
    }


def test_check_names_what_falls_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def goal(case: str, ratio: float | None) -> check.CpuGoal:
        def measured(settings: Any) -> dict[str, Any]:
            if ratio is None:
                raise RuntimeError("no memory")
            return {"ratios": {"cold": {"torch": dict.fromkeys(("median", "q1", "q3"), ratio)}}}

        return check.CpuGoal(case, 2.0, 3.0, measured, "torch", kind="cold")

    results = Results(tmp_path / "check.json")
    for goals, status in (
        ([goal("fast", 2.5)], 0),
        ([goal("fast", 2.5), goal("slow", 1.9), goal("broken", None)], 1),
    ):
        monkeypatch.setattr(check, "CPU_GOALS", goals)
        assert check.run(results, None) == status
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["fast"].endswith(" met")
    assert lines["slow"].endswith("FALLS SHORT")
    assert "no memory" in lines["broken"]
    assert {goal.at_least for goal in CPU_GOALS} == {
        0.95,
        0.97,
        1.4,
        1.6,
        1.7,
        3.0,
        4.0,
        5.0,
        6.0,
        7.0,
        10.0,
    }


def test_instruction_counts_are_compared_with_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"instructions_a_step": {"a": 1000, "b": 1000}}
    lines = callgrind.compare({"a": 1019, "b": 979, "c": 5}, record)
    assert [line.split(":")[0] for line in lines] == ["b", "c"]
    kept = json.loads(callgrind.RECORD.read_text())
    assert set(kept["instructions_a_step"]) == set(callgrind.CASES)
    monkeypatch.setattr(callgrind.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="valgrind is not installed"):
        callgrind.count()


SANITIZER = """#!/bin/sh
echo "========= COMPUTE-SANITIZER"
case "$*" in
  *racecheck*) echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)" ;;
  *) echo "========= ERROR SUMMARY: 3 errors" ;;
esac
echo "tests/x.py::test_y PASSED"
"""


@pytest.mark.slow
def test_rehearsal_goes_through_every_part(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text(SANITIZER)
    tool.chmod(0o755)
    out = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--rehearse", "--out", str(out), "--commit", "abc"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (out / "REPORT.md").is_file(), run.stdout + run.stderr
    files = sorted(path.name for path in out.iterdir())
    assert {"results.json", "REPORT.md", "log.txt"} <= set(files)
    assert len(files) <= 8
    data = Results.load(out / "results.json").data
    assert data["environment"]["commit"] == "abc"
    failed = {
        f"{part}: {case}": row["error"]
        for part, rows in data["parts"].items()
        for case, row in rows.items()
        if "error" in row
    }
    assert failed == {}
    assert data["parts"]["checks"]["memcheck"]["findings"] == 3
    assert data["parts"]["checks"]["racecheck"]["findings"] == 0
    assert data["parts"]["checks"]["GPU tests"]["n_failed"] == 0
    assert data["parts"]["graphs"]["captured training step"]["parameters_equal"]
    assert {"bandwidth", "step", "pipelines", "model", "scaling", "compiled"} <= set(data["parts"])
    assert [goal["what"] for goal in data["goals"]] == [goal.what for goal in gpu_goals.GOALS]


def full_results(path: Path) -> Results:
    """What a GPU that meets every goal would leave."""
    ours, fused = gpu_goals.OURS, gpu_goals.FUSED
    results = Results(path)
    results.data["copy_bandwidth"] = {"bytes_a_second": 1e12}
    for case in (gpu_goals.RESNET, gpu_goals.LARGE, gpu_goals.GPT2, gpu_goals.SMALL):
        results.add(
            "step",
            case,
            {
                "bytes": 960.0,
                "copy": {"bytes_a_second": 1e12},
                "times": {ours: {"device": {"median": 1e-9}, "hot": {"median": 20e-6}}},
                "ratios": {kind: {fused: {"median": 12.0}} for kind in ("device", "host")},
                "trace": {ours: {"kernels": 1.0, "copies": 0.0, "syncs": 0.0}},
            },
        )
    inside = {"ratios": {"inside": {fused: {"median": 9.0}}}}
    results.add("model", gpu_goals.TRAINING, inside)
    clip = {"torch fused: unscale, clip, step": {"median": 1.7}}
    results.add("pipelines", "unscale, clip, step", {"ratios": {"device": clip}})
    graph = {"replays": 1000, "parameters_equal": True, "control_equal": True}
    results.add("graphs", "captured training step", graph | {"worst_rate_error_in_float32_ulps": 1})
    passed = {"status": 0, "passed": 9, "n_failed": 0, "n_skipped": 0, "findings": 0}
    for name in ("GPU tests", "other tests", "memcheck", "racecheck"):
        results.add("checks", name, dict(passed))
    return results


def test_every_gpu_goal_can_be_met_and_missed(tmp_path: Path) -> None:
    results = full_results(tmp_path / "results.json")
    assert {each["what"]: each["met"] for each in gpu_goals.verdicts(results)} == {
        goal.what: True for goal in gpu_goals.GOALS
    }
    parts = results.data["parts"]
    for row in parts["step"].values():
        row["times"][gpu_goals.OURS] = {"device": {"median": 2e-9}, "hot": {"median": 26e-6}}
        row["ratios"]["host"][gpu_goals.FUSED]["median"] = 9.0
        row["trace"][gpu_goals.OURS]["copies"] = 1.0
    parts["model"][gpu_goals.TRAINING]["ratios"]["inside"][gpu_goals.FUSED]["median"] = 7.0
    parts["pipelines"]["unscale, clip, step"]["ratios"]["device"].popitem()[1]["median"] = 1.5
    parts["graphs"]["captured training step"]["parameters_equal"] = False
    parts["checks"]["GPU tests"]["n_skipped"] = 1
    parts["checks"]["other tests"]["status"] = 1
    parts["checks"]["racecheck"]["findings"] = 1
    assert not any(each["met"] for each in gpu_goals.verdicts(results))
    empty = gpu_goals.verdicts(Results(tmp_path / "none.json"))
    assert {each["met"] for each in empty} == {None}


def test_what_a_gpu_run_leaves_out_is_there() -> None:
    """A test that was renamed would run after all."""
    left_out = [each.partition("=")[2] for each in gpu_checks.OTHER_TESTS if "=" in each]
    assert len(left_out) == len(gpu_checks.GPU_TESTS) + 2
    for path, _, name in (each.partition("::") for each in left_out):
        assert (ROOT / path).exists()
        assert name in (globals() if name else [""])


def test_process_that_takes_too_long_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_checks, "WORK", tmp_path)
    endless = f"echo begun; sleep {10 * PATIENCE:.0f} & wait; echo ended"
    slow = gpu_checks.Process("slow", ["sh", "-c", endless])
    quick = gpu_checks.Process("quick", ["true"])
    slow.start()
    limit = time.monotonic() + PATIENCE
    while slow.output.read_text() != "begun\n" and time.monotonic() < limit:
        time.sleep(0.01)
    assert gpu_checks.together([quick], PATIENCE)["quick"]["status"] == 0
    assert "stopped after" in slow.finish(time.monotonic())["error"]
    assert slow.output.read_text() == "begun\n"


def test_tests_that_cannot_begin_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the build has failed: nothing has passed, and nothing has failed."""
    monkeypatch.setattr(gpu_checks, "WORK", tmp_path)
    process = gpu_checks.Process("tests", [])
    process.output.write_text("conftest.py:9: in <module>\nE   ImportError: no _C\n")
    row = gpu_checks.outcomes(process, {"status": 4})
    assert row["error"] == "no test ran, status 4: E   ImportError: no _C"


def test_measuring_goes_on_after_a_worker_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results(tmp_path / "results.json")
    results.save()
    statuses = iter([-11, gpu.WORKER_BROKEN, 0])

    class Worker(gpu_checks.Process):
        def start(self) -> None:
            self.output.write_text("what it printed")

        def finish(self, deadline: float, watch: object) -> dict[str, Any]:
            status = next(statuses)
            if status == -11:
                results.data["running"] = ["step", "the case that crashed"]
                results.save()
            return {"status": status, "seconds": 1.0}

    monkeypatch.setattr(gpu_checks, "WORK", tmp_path)
    monkeypatch.setattr(gpu_checks, "Process", Worker)
    options = gpu.arguments().parse_args(["--out", str(tmp_path)])
    gpu.measure(options, 60, gpu.Log(tmp_path / "log.txt"))
    assert next(statuses, None) is None
    row = Results.load(results.path).data["parts"]["step"]["the case that crashed"]
    assert row["error"] == "the process ended with status -11"


def test_a_hang_costs_its_own_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(tmp_path / "results.json")
    results.save()
    commands = iter([["sleep", f"{10 * PATIENCE:.0f}"], ["true"]])

    class Worker(gpu_checks.Process):
        def start(self) -> None:
            self.command = next(commands)
            if self.command != ["true"]:
                results.data["running"] = ["step", "the case that hangs"]
                results.save()
            super().start()

    monkeypatch.setattr(gpu_checks, "WORK", tmp_path)
    monkeypatch.setattr(gpu_checks, "Process", Worker)
    monkeypatch.setitem(gpu_tasks.NEEDED, "step", 0.5)
    options = gpu.arguments().parse_args(["--out", str(tmp_path)])
    gpu.measure(options, PATIENCE, gpu.Log(tmp_path / "log.txt"))
    assert next(commands, None) is None
    saved = Results.load(results.path).data
    assert "as a hang" in saved["parts"]["step"]["the case that hangs"]["error"]
    assert "running" not in saved


def test_a_dead_context_keeps_the_words_of_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results(tmp_path / "results.json")

    def die() -> dict[str, Any]:
        raise RuntimeError("an illegal memory access was encountered")

    def dead() -> None:
        raise RuntimeError("the same again")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", dead)
    assert not results.run(Task("step", "a case", die))
    results.data["running"] = ["step", "a case"]  # as the worker leaves it, which ends there
    results.save()

    class Worker(gpu_checks.Process):
        def start(self) -> None:
            self.output.write_text("")

        def finish(self, deadline: float, watch: object) -> dict[str, Any]:
            running = "running" in Results.load(results.path).data
            return {"status": gpu.WORKER_BROKEN if running else 0, "seconds": 1.0}

    monkeypatch.setattr(gpu_checks, "WORK", tmp_path)
    monkeypatch.setattr(gpu_checks, "Process", Worker)
    options = gpu.arguments().parse_args(["--out", str(tmp_path)])
    gpu.measure(options, 60, gpu.Log(tmp_path / "log.txt"))
    saved = Results.load(results.path).data
    assert saved["parts"]["step"]["a case"]["error"].endswith(
        "illegal memory access was encountered"
    )
    assert "running" not in saved


@pytest.mark.parametrize(
    ("variable", "told"),
    [({}, "is dead after test_it.py::test_breaks: what is"), ({"PYTEST_XDIST_WORKER": "gw0"}, "")],
)
def test_gpu_tests_end_with_their_context(
    tmp_path: Path, variable: dict[str, str], told: str
) -> None:
    (tmp_path / "torch.py").write_text(
        "class cuda:\n"
        "    dead = False\n"
        "    is_initialized = staticmethod(lambda: True)\n"
        "    def synchronize():\n"
        "        if cuda.dead: raise RuntimeError('sticky')\n"
    )
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "gpu" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import torch\n"
        "def test_fails(): assert False\n"
        "def test_breaks():\n"
        "    torch.cuda.dead = True\n"
        "    assert False, 'its own words'\n"
        "def test_never(): print('never')\n"
    )
    outside = {key: each for key, each in os.environ.items() if not key.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-vs", "test_it.py"],
        cwd=tmp_path,
        env={**outside, "PYTHONPATH": str(tmp_path), **variable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert told in done.stdout
    assert "test_fails FAILED" in done.stdout
    assert "test_breaks FAILED" in done.stdout
    assert "never" not in done.stdout


def test_contender_that_fails_leaves_the_others_their_figures() -> None:
    def broken(params: Any) -> Any:
        raise OSError("no such library")

    settings = step.Settings(CPU, 0.0, quick=True, min_rounds=2)
    pair = [contenders.Contender("broken", broken), *contenders.against_fused(CPU)]
    row = step.compare(settings, shapes.ONE_ELEMENT, pair)
    assert row["failed"] == {"broken": "OSError: no such library"}
    assert row["base"] == "ours: cpu"
    assert set(row["ratios"]["total"]) == {"torch fused + LambdaLR"}
    with pytest.raises(RuntimeError, match="no contender could do a step"):
        step.compare(settings, shapes.ONE_ELEMENT, pair[:1])


@pytest.mark.parametrize("max_norm", [0.5, 1e30])
def test_clipping_in_the_step_is_clipping(monkeypatch: pytest.MonkeyPatch, max_norm: float) -> None:
    monkeypatch.setattr(pipelines, "MAX_NORM", max_norm)
    monkeypatch.setitem(pipelines.SCALER, "init_scale", 8.0)

    def after(contender: contenders.Contender) -> list[torch.Tensor]:
        params = shapes.ShapeSet("", ((33,), (5, 7))).make(CPU)
        grads = [p.grad.clone() for p in params]
        step = contender.build(params)
        for _ in range(3):
            for p, grad in zip(params, grads, strict=True):
                p.grad = 8.0 * grad
            step()
        return params

    for other in (pipelines.amp("fused", clip=True), pipelines.amp("ours", clip=True)):
        for p, q in zip(after(pipelines.clip_in_step()), after(other), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
