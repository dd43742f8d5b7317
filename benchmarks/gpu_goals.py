"""The goals on a GPU, each judged from saved results: what was asked, what was found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .report import seconds, table
from .results import Results

OURS = "ours: cuda"
FUSED = "torch fused + LambdaLR"
RESNET = "ResNet-50, float32"
LARGE = "1 x 268M, float32"
GPT2 = "GPT-2 small, bfloat16"
SMALL = "10,000 x 64, float32"
TRAINING = "53 convolutions with batch norm, batch 128"

# What was found in words, and whether it meets the goal; None: it could not be judged.
Verdict = tuple[str, bool | None]


class Missing(Exception):
    """A figure that a goal needs was not measured; the message says why."""


@dataclass(frozen=True)
class Goal:
    """One line of the table of goals."""

    what: str
    goal: str
    judge: Callable[[Results], Verdict]


def row(results: Results, part: str, case: str) -> dict[str, Any]:
    """Return a row.

    Raises:
        Missing: It was not measured, or failed.
    """
    found = results.data["parts"].get(part, {}).get(case)
    if found is None:
        raise Missing("not measured")
    if "error" in found:
        raise Missing(found["error"].splitlines()[0][:200])
    return found


def time(found: dict[str, Any], name: str, kind: str) -> float:
    """Return a median.

    Raises:
        Missing: That contender did not take part.
    """
    if kind not in found["times"].get(name, {}):
        raise Missing(f"no {kind} time of {name}")
    return found["times"][name][kind]["median"]


def of_copy(case: str, least: float) -> Callable[[Results], Verdict]:
    def judge(results: Results) -> Verdict:
        found = row(results, "step", case)
        copies = {
            "a large copy": results.data.get("copy_bandwidth", {}).get("bytes_a_second"),
            "one of as many bytes": found.get("copy", {}).get("bytes_a_second"),
        }
        if None in copies.values():
            raise Missing("no copy bandwidth")
        taken = time(found, OURS, "device")
        fractions = {name: found["bytes"] / taken / copy for name, copy in copies.items()}
        words = ", ".join(
            f"{fraction:.3f} of {name} ({copies[name] / 1e12:.2f} TB/s)"
            for name, fraction in fractions.items()
        )
        return f"{seconds(taken)}: {words}", min(fractions.values()) >= least

    return judge


def ratio(found: dict[str, Any], kind: str, other: str = FUSED) -> float:
    if other not in found.get("ratios", {}).get(kind, {}):
        raise Missing(f"no ratio of {kind} times to {other}")
    return found["ratios"][kind][other]["median"]


def resnet_host(results: Results) -> Verdict:
    taken = time(row(results, "step", RESNET), OURS, "hot")
    times = ratio(row(results, "model", TRAINING), "inside")
    words = f"{seconds(taken)} hot, {times:.1f} times less inside training"
    return words, taken <= 25e-6 and times >= 8


def many_small(results: Results) -> Verdict:
    found = row(results, "step", SMALL)
    try:
        device = ratio(found, "device")
    except Missing:  # more launches than the queue holds: the sum of torch's kernel times
        traces = found.get("trace", {})
        if FUSED not in traces or OURS not in traces:
            raise
        device = traces[FUSED]["busy"] / traces[OURS]["busy"]
    host = ratio(found, "host")
    return f"{device:.1f} times device, {host:.1f} times host", device >= 5 and host >= 10


def steady(results: Results) -> Verdict:
    found = row(results, "step", RESNET)
    if OURS not in found.get("trace", {}):
        raise Missing("no trace of ours")
    a_step = found["trace"][OURS]
    counts = [a_step[key] for key in ("kernels", "copies", "syncs")]
    return "{:g} kernels, {:g} copies, {:g} syncs".format(*counts), counts == [1, 0, 0]


def clipped(results: Results) -> Verdict:
    found = row(results, "pipelines", "unscale, clip, step")
    kind = "device" if "device" in found.get("ratios", {}) else "total"
    times = ratio(found, kind, "torch fused: unscale, clip, step")
    return f"{times:.2f} times ({kind} time)", times >= 1.6


def captured(results: Results) -> Verdict:
    found = row(results, "graphs", "captured training step")
    ulps = found["worst_rate_error_in_float32_ulps"]
    words = (
        f"{found['replays']} replays, rates within {ulps:.2g} ulp, parameters "
        f"{'equal' if found['parameters_equal'] else 'differ'}"
    )
    if not found["parameters_equal"] and not found["control_equal"]:
        return words + "; two uncaptured runs differ as well", None
    return words, ulps <= 1 and found["parameters_equal"] and found["replays"] >= 1000


def tests(results: Results) -> Verdict:
    found = results.data["parts"].get("checks", {}).get("GPU tests")
    if found is None:
        raise Missing("not run")
    words = f"{found['passed']} passed, {found['n_failed']} failed, {found['n_skipped']} skipped"
    whole = found["status"] == 0 and found["passed"] > 0
    return words, whole and not found["n_failed"] and not found["n_skipped"]


def other_tests(results: Results) -> Verdict:
    found = results.data["parts"].get("checks", {}).get("other tests")
    if found is None:
        raise Missing("not run")
    words = f"{found['passed']} passed, {found['n_failed']} failed, {found['n_skipped']} skipped"
    return words + ("" if found["status"] is not None else ", not finished"), found["status"] == 0


def sanitized(results: Results) -> Verdict:
    rows = [row(results, "checks", tool) for tool in ("memcheck", "racecheck")]
    words = ", ".join(
        f"{tool}: {each['findings']} over {each['passed']} tests"
        for tool, each in zip(("memcheck", "racecheck"), rows, strict=True)
    )
    return words, not any(each["findings"] or each["n_failed"] for each in rows)


GOALS = (
    Goal("tests of the GPU kernels", "all pass, none skipped", tests),
    Goal("all other tests", "all pass", other_tests),
    Goal("device time, ResNet-50", ">= 0.92 of the copy bandwidth", of_copy(RESNET, 0.92)),
    Goal("device time, one tensor of 268M", ">= 0.95", of_copy(LARGE, 0.95)),
    Goal("device time, GPT-2 in bf16", ">= 0.90", of_copy(GPT2, 0.90)),
    Goal(
        "host time of a step, ResNet-50",
        "<= 25 us hot, 8 times less than torch inside training",
        resnet_host,
    ),
    Goal("10,000 tensors of 64", "5 times less device, 10 times less host time", many_small),
    Goal("a steady step", "1 kernel, 0 copies, 0 syncs", steady),
    Goal("AMP: unscale, clip, step", ">= 1.6 times faster", clipped),
    Goal("captured training step", "1,000 replays, rates to 1 ulp, same bits", captured),
    Goal("compute-sanitizer", "no finding", sanitized),
)


def verdicts(results: Results) -> list[dict[str, Any]]:
    """Return each goal with what was found and its verdict, as plain data."""
    found = []
    for goal in GOALS:
        try:
            measured, met = goal.judge(results)
        except Missing as reason:
            measured, met = str(reason), None
        except Exception as error:  # one odd row must not cost the whole report
            measured, met = f"{type(error).__name__}: {error}", None
        found.append({"what": goal.what, "goal": goal.goal, "measured": measured, "met": met})
    return found


def chapter(results: Results) -> str:
    """Return the table of goals."""
    words = {True: "met", False: "**falls short**", None: "not judged"}
    lines = [
        [each["what"], each["goal"], each["measured"].replace("|", "/"), words[each["met"]]]
        for each in verdicts(results)
    ]
    return "## Goals\n\n" + table(["what", "goal", "measured", "verdict"], lines)


def failed_tests(results: Results) -> list[str]:
    """Return a chapter with the tests that failed, were skipped or warned, if any did."""
    lines = []
    for name, found in results.data["parts"].get("checks", {}).items():
        lines += [f"- {name}, failed: {each}" for each in found.get("failed", [])[:20]]
        lines += [f"- {name}, {n} skipped: {why}" for why, n in found.get("skipped", {}).items()]
        if found.get("warnings"):
            lines.append(f"- {name}, warnings: {found['warnings']}")
    text = "\n".join(" ".join(line.split())[:400] for line in lines)
    return [f"## Tests that did not pass\n\n{text}"] if lines else []
