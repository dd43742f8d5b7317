"""What ranks do in tests/distributed/test_distributed_elastic.py."""

import torch.distributed.checkpoint as dcp
from distributed.common import averaged_step, loss_of, make_model, rank, values_of
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.parallel import DistributedDataParallel as DDP

from fused_warmup import SGD, LargeMinibatch, large_minibatch
from fused_warmup.recipes import change_batch

PER_RANK, DATASET = 6, 192


def recipe_for(world: int) -> LargeMinibatch:
    return large_minibatch(
        PER_RANK * world,
        dataset_size=DATASET,
        reference_lr=0.01,
        reference_batch=PER_RANK,
        warmup_epochs=1,
        milestones=(2,),
        epochs=3,
    )


def make(world: int) -> tuple[nn.Module, SGD]:
    model = make_model()
    return model, SGD(model.parameters(), **recipe_for(world).sgd_options())


def train(model: nn.Module, opt: SGD, first: int, steps: int) -> None:
    ddp = DDP(model)
    for step in range(first, first + steps):
        opt.zero_grad()
        loss_of(ddp, step, rank()).backward()
        opt.step()


def before(folder: str, world: int, steps: int) -> None:
    model, opt = make(world)
    train(model, opt, 0, steps)
    weights, state = get_state_dict(model, opt)
    dcp.save({"model": weights, "optim": state, "world": world}, checkpoint_id=folder)


def after(folder: str, world: int, steps: int) -> tuple[int, list[Tensor]]:
    model, opt = make(world)
    weights, state = get_state_dict(model, opt)
    saved = {"model": weights, "optim": state, "world": 0}
    dcp.load(saved, checkpoint_id=folder)
    set_state_dict(model, opt, model_state_dict=saved["model"], optim_state_dict=saved["optim"])
    change_batch(opt, recipe_for(saved["world"]), recipe_for(world))
    train(model, opt, 100, steps)
    return opt.steps_applied, values_of(opt)


def in_one_process(first: int, then: int) -> list[Tensor]:
    model, opt = make(4)
    for step in range(first):
        averaged_step(model, opt, [loss_of(model, step, r) for r in range(4)])
    change_batch(opt, recipe_for(4), recipe_for(2))
    for step in range(100, 100 + then):
        averaged_step(model, opt, [loss_of(model, step, r) for r in range(2)])
    return values_of(opt)
