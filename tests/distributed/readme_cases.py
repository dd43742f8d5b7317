"""What ranks do in tests/test_distributed_readme.py."""

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from distributed.common import fingerprint, loss_of, make_model, rank
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import fused_warmup


def run_blocks(setup: str, checkpoint: str, folder: str) -> tuple[Any, Any]:
    """Fingerprints of a run and of what its checkpoint brings back."""
    names: dict[str, Any] = {
        "DistributedDataParallel": DistributedDataParallel,
        "dcp": dcp,
        "dist": dist,
        "folder": folder,
        "fully_shard": fully_shard,
        "fused_warmup": fused_warmup,
        "get_state_dict": get_state_dict,
        "schedule": fused_warmup.linear_warmup(4),
        "set_state_dict": set_state_dict,
    }
    names["network"] = make_model()
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


def train(names: dict[str, Any], steps: int) -> None:
    for step in range(steps):
        names["opt"].zero_grad()
        loss_of(names["model"], step, rank()).backward()
        names["opt"].step()
