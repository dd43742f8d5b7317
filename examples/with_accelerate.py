"""Accelerate prepares the optimizer as any other; no scheduler is needed."""

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy

import fused_warmup
from fused_warmup.schedules import cosine, linear_warmup

if __name__ == "__main__":
    accelerator = Accelerator(gradient_accumulation_steps=2)
    net = torch.nn.Linear(16, 4)
    schedule = linear_warmup(5).then(cosine(15))
    opt = fused_warmup.SGD(net.parameters(), lr=0.4, momentum=0.9, schedule=schedule)
    data = torch.utils.data.TensorDataset(torch.randn(320, 16), torch.randint(4, (320,)))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    net, opt, loader = accelerator.prepare(net, opt, loader)
    for x, y in loader:
        with accelerator.accumulate(net):
            accelerator.backward(cross_entropy(net(x), y))
            opt.step()
            opt.zero_grad()
    print(opt.optimizer.steps_applied, "updates of", len(loader), "batches")
