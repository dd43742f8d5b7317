"""RateLog on a GPU: no sync in a step, a copy that is waited for when it is read, graphs."""

import pytest
import torch
from support.gpu_cases import NEEDS_GPU, TRAINING, captured, parameters, syncs_are_errors
from torch import Tensor

from fused_warmup import SGD, RateLog

pytestmark = [*NEEDS_GPU, pytest.mark.parametrize("backend", ["cuda", "triton"])]

WARMUPS = 3


def logged(backend: str, size: int) -> tuple[SGD, RateLog, Tensor]:
    opt = SGD(
        parameters(sizes=(65, 5003)), lr=0.1, momentum=0.9, schedule=TRAINING, backend=backend
    )
    found_inf = torch.zeros((), device="cuda")
    opt.grad_scale, opt.found_inf = torch.ones((), device="cuda"), found_inf
    return opt, RateLog(opt, size), found_inf


def check(log: RateLog, skips: set[int], calls: int, size: int) -> None:
    t, expected = 0, []
    for call in range(calls):
        expected.append((call, t, call in skips))
        t += call not in skips
    found = log.read().steps()
    assert [step[:3] for step in found] == expected[-size:]
    for step in found:
        if not step.skipped:
            assert step.lr == pytest.approx([0.1 * TRAINING(step.t)], rel=1e-6)


def test_neither_noting_nor_reading_waits(backend: str) -> None:
    opt, log, found_inf = logged(backend, 8)
    opt.step()
    torch.cuda.synchronize()
    with syncs_are_errors():
        for call in range(1, 12):
            found_inf.fill_(float(call in (4, 9)))
            opt.step()
        log.read()
    check(log, {4, 9}, 12, 8)


def test_replays_are_noted(backend: str) -> None:
    opt, log, found_inf = logged(backend, 8)
    graph = captured(opt.step, WARMUPS)
    skips = set()
    for call in range(WARMUPS, 40):
        if call % 7 == 3:
            skips.add(call)
        found_inf.fill_(float(call in skips))
        (graph.replay if call % 5 else opt.step)()
    check(log, skips, 40, 8)


def test_the_ring_follows_a_model(backend: str) -> None:
    params = parameters(sizes=(65,), device="cpu")
    opt = SGD(params, lr=0.1, momentum=0.9, schedule=TRAINING)
    log = RateLog(opt, 4)
    opt.step()
    for p in params:
        grad = p.grad
        p.grad = None
        p.data = p.data.cuda()
        p.grad = grad.cuda()
    opt.backend = backend
    for _ in range(2):
        opt.step()
    found = log.read().steps()
    assert [step[:3] for step in found] == [(0, 0, False), (1, 1, False), (2, 2, False)]
