"""torch.compile of a whole training step: the optimizer's launch stays what it is."""

import torch

import fused_warmup
from fused_warmup.schedules import cosine, linear_warmup

net = torch.nn.Linear(16, 4)
schedule = linear_warmup(5).then(cosine(15))
opt = fused_warmup.SGD(net.parameters(), lr=0.4, momentum=0.9, schedule=schedule)


@torch.compile(backend="aot_eager")
def train_step(x: torch.Tensor) -> None:
    opt.zero_grad()
    net(x).logsumexp(1).mean().backward()
    opt.step()


if __name__ == "__main__":
    for _ in range(4):
        train_step(torch.randn(8, 16))
    print(opt.steps_applied, opt.get_last_lr())
