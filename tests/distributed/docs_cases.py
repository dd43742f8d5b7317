"""What ranks do in tests/distributed/test_distributed_docs.py."""

from typing import Any

import torch
import torch.distributed as dist
from distributed.common import batch, fingerprint, loss_of, make_model, rank, whole


def names_of(imports: str) -> dict[str, Any]:
    """The page's namespace, with a network and a schedule that changes within a few steps."""
    names: dict[str, Any] = {}
    exec(imports, names)
    names["schedule"] = names["fused_warmup"].linear_warmup(4)
    names["network"] = make_model()
    return names


def train(names: dict[str, Any], steps: int) -> None:
    for step in range(steps):
        names["opt"].zero_grad()
        loss_of(names["model"], step, rank()).backward()
        names["opt"].step()


def checkpointed(imports: str, setup: str, checkpoint: str, folder: str) -> tuple[Any, Any]:
    """Fingerprints of a run and of what its checkpoint brings back."""
    names = names_of(imports) | {"folder": folder}
    exec(setup, names)
    train(names, 3)
    before = fingerprint(names["opt"])
    get, keep, save, load, put = checkpoint.splitlines()
    exec("\n".join((get, keep, save)), names)

    names["network"] = make_model()
    exec(setup, names)
    with torch.no_grad():
        for p in names["model"].parameters():
            p.zero_()
    exec("\n".join((get, keep, load, put)), names)
    return before, fingerprint(names["opt"])


def taken_over(imports: str, setup: str, load: str, folder: str) -> tuple[Any, Any, int]:
    """Weights and rate of torch.optim.SGD's run, and of one that its checkpoint was loaded into."""
    names = names_of(imports) | {"folder": folder}
    exec(setup, names)
    names["opt"] = torch.optim.SGD(names["model"].parameters(), lr=0.4, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(names["opt"], names["schedule"])

    def on(first: int, steps: int) -> None:
        for step in range(first, first + steps):
            names["opt"].zero_grad()
            loss_of(names["model"], step, rank()).backward()
            used = names["opt"].param_groups[0]["lr"]
            names["opt"].step()
            scheduler.step()
            names["used"] = used

    on(0, 3)
    weights, state = names["get_state_dict"](names["model"], names["opt"])
    names["dcp"].save({"model": weights, "optim": state}, checkpoint_id=folder)
    on(3, 2)
    expected = sums(names), [names["used"]]

    names["network"] = make_model()
    exec(setup, names)
    exec(load, names)
    for step in range(3, 5):
        names["opt"].zero_grad()
        loss_of(names["model"], step, rank()).backward()
        names["opt"].step()
    opt = names["opt"]
    return expected, (sums(names), opt.get_last_lr()), opt.steps_applied


def sums(names: dict[str, Any]) -> list[float]:
    """The sum of each parameter, to six digits: torch's kernels round in another order."""
    return [round(float(whole(p.detach()).double().sum()), 6) for p in names["model"].parameters()]


def elastic(imports: str, ddp: str, change: str) -> tuple[int, list[float], int, list[float]]:
    """Count and base rates before and after the change."""
    names = names_of(imports)
    exec(ddp, names)
    train(names, 3)
    opt = names["opt"]
    before = opt.steps_applied, [group["lr"] for group in opt.param_groups]
    exec(change, names)
    return (*before, opt.steps_applied, [group["lr"] for group in opt.param_groups])


def run(imports: str, setup: str) -> tuple[list[float], int]:
    """What a set-up has made of the parameters after three steps, and the count."""
    names = names_of(imports)
    exec(setup, names)
    train(names, 3)
    opt = names["opt"]
    counted = getattr(opt, "optim", opt)  # ZeroRedundancyOptimizer has ours inside
    return [float(p.sum()) for p in names["network"].parameters()], counted.steps_applied


def uneven(imports: str, setup: str, loop: str) -> tuple[Any, int]:
    """Two batches more on rank 0 than on the others; also the batches of this rank."""
    names = names_of(imports)
    exec(setup, names)
    n_batches = 3 if dist.get_rank() > 0 else 5
    names["batches"] = [batch(step, rank()) for step in range(n_batches)]
    exec(loop, names)
    return fingerprint(names["opt"]), n_batches
