"""A user's script, for type checkers: `make types` reads it, nobody runs it."""

import torch

import fused_warmup
from fused_warmup import LARS, SGD, RateLog, attach, clip_grad_norm_, convert, large_minibatch
from fused_warmup.schedules import cosine, from_callable, linear_warmup, table

model = torch.nn.Linear(3, 2)
schedule: fused_warmup.Schedule = linear_warmup(5).then(cosine(95))
factor: float = schedule(3)
product: fused_warmup.Schedule = 2 * schedule * cosine(3)
sampled: fused_warmup.Schedule = from_callable(lambda t: 1 / (t + 1), 10).then(table([0.1, 0.2]))
opt = SGD(model.parameters(), lr=0.1, momentum=0.9, schedule=schedule)
named = SGD(model.named_parameters(), lr=torch.tensor(0.1))
groups = SGD([{"params": model.parameters(), "schedule": schedule}])


def closure() -> torch.Tensor:
    opt.zero_grad()
    return model(torch.ones(1, 3)).sum()  # type: ignore[no-any-return]


opt.step()
loss: torch.Tensor = opt.step(closure)
number: float = opt.step(lambda: 1.0)
opt.steps_applied = 1 + opt.steps_applied
rates: list[float] = opt.get_last_lr()
scheduler: torch.optim.lr_scheduler.LRScheduler = opt.scheduler()
with opt.without_schedules():
    opt.step()
norm: torch.Tensor = clip_grad_norm_(opt, 1.0)
opt.load_state_dict(opt.state_dict(), schedules="code")
last: list[float] = RateLog(opt, size=10).read().steps()[-1].lr
averaged: torch.nn.Module = SGD(model.parameters(), ema_decay=0.9).averaged(model)

count: int = attach(torch.optim.AdamW(model.parameters()), schedule).steps_applied
old = torch.optim.SGD(model.parameters(), lr=0.1)
convert(old, torch.optim.lr_scheduler.LinearLR(old)).step()
recipe = large_minibatch(8192, dataset_size=1_281_167)
of_recipe = SGD(fused_warmup.split_weight_decay(model, recipe.weight_decay), **recipe.sgd_options())
layerwise: torch.optim.Optimizer = LARS(model.parameters(), lr=1.0)
