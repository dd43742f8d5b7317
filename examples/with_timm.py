"""timm makes the optimizer by name, once its registry knows it."""

import timm
import torch
from timm.optim import OptimInfo, create_optimizer_v2
from timm.optim._optim_factory import default_registry

import fused_warmup
from fused_warmup.schedules import cosine, linear_warmup

if __name__ == "__main__":
    # A name without "_", which timm reads as "lookahead_sgd".
    default_registry.register(
        OptimInfo("fusedwarmup", fused_warmup.SGD, "SGD, warm-up included", has_momentum=True)
    )
    net = timm.create_model("resnet10t", num_classes=4)
    schedule = linear_warmup(2).then(cosine(8))
    opt = create_optimizer_v2(net, "fusedwarmup", lr=0.1, weight_decay=1e-4, schedule=schedule)
    for _ in range(3):
        opt.zero_grad()
        net(torch.randn(4, 3, 32, 32)).logsumexp(1).mean().backward()
        opt.step()
    print(opt.steps_applied, opt.get_last_lr())
