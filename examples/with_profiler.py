"""torch.profiler shows each step under torch's own label, and RateLog the rates beside it."""

import torch
from torch.profiler import ProfilerActivity, profile

import fused_warmup
from fused_warmup.schedules import cosine, linear_warmup

if __name__ == "__main__":
    net = torch.nn.Linear(16, 4)
    schedule = linear_warmup(5).then(cosine(15))
    opt = fused_warmup.SGD(net.parameters(), lr=0.4, momentum=0.9, schedule=schedule)
    log = fused_warmup.RateLog(opt, size=20)
    cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with profile(activities=[ProfilerActivity.CPU, *cuda]) as profiled:
        for _ in range(20):
            opt.zero_grad()
            net(torch.randn(8, 16)).logsumexp(1).mean().backward()
            opt.step()
    for event in profiled.key_averages():
        if event.key.startswith("Optimizer."):
            print(event.key, event.count, "calls,", event.cpu_time_total_str, "in all")
    print([round(step.lr[0], 3) for step in log.read().steps()])
