"""A torch loop with a gradual warm-up and a half cosine."""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

import fused_warmup

torch.manual_seed(0)
model = torch.nn.Linear(16, 4)
data = torch.utils.data.TensorDataset(torch.randn(160, 16), torch.randint(4, (160,)))
loader = torch.utils.data.DataLoader(data, batch_size=8)

opt = torch.optim.SGD(model.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-4)
warmup, decay = LinearLR(opt, 0.1, total_iters=5), CosineAnnealingLR(opt, 15)
scheduler = SequentialLR(opt, [warmup, decay], [5])
opt = fused_warmup.convert(opt, scheduler)
for x, y in loader:
    opt.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    opt.step()
