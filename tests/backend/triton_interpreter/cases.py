"""What the tests in Triton's interpreter share. Importing it makes the interpreter exact."""

import copy

import exact
import torch
from support import same_bits

from fused_warmup import SGD
from fused_warmup._backend.triton import launcher as backend

BLOCK, TAIL = backend.BLOCK, backend.TAIL
SIZES = (0, 1, 15, 16, 17, TAIL + 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 21)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

exact.install()


def draw(size, dtype, seed, offset=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size + offset, generator=generator).to(dtype)[offset:]


def parameters(sizes, dtype=torch.float32, grad_dtype=None, offset=0):
    """Parameters with gradients; `offset` elements keep them from a 16-byte boundary."""
    params = []
    for i, size in enumerate(sizes):
        p = draw(size, dtype, i, offset).requires_grad_()
        p.grad_dtype = grad_dtype or dtype
        p.grad = draw(size, p.grad_dtype, 100 + i, offset)
        params.append(p)
    return params


def plan_of(params, **what):
    """A plan of one group without schedules."""
    return backend.make_triton_plan(
        params=params,
        group_of=[0] * len(params),
        schedules=[],
        schedule_of=[-1],
        momentum_schedule_of=[-1],
        **what,
    )


class Pair:
    """Two optimizers of the same making: ours on Triton, and the reference."""

    def __init__(self, make_params, **options):
        self.ours, self.theirs = (
            SGD(make_params(), backend=name, **copy.deepcopy(options))
            for name in ("triton", "reference")
        )

    def both(self):
        return (self.ours, self.theirs)

    def params(self, opt):
        return [p for group in opt.param_groups for p in group["params"]]

    def step(self, steps=1, scale=None, found_inf=None):
        for _ in range(steps):
            for opt in self.both():
                if scale is not None:
                    opt.grad_scale = torch.tensor(scale)
                if found_inf is not None:
                    opt.found_inf = torch.tensor([found_inf])
                opt.step()
                opt.grad_scale = opt.found_inf = None
            self.check()
            for opt in self.both():
                for i, p in enumerate(self.params(opt)):
                    if p.grad is not None:
                        seed = 1000 * opt.steps_applied + i
                        p.grad.copy_(draw(p.numel(), p.grad.dtype, seed).view(p.shape))

    def check(self):
        """Everything a step touches is the same, bit for bit."""
        ours, theirs = self.both()
        assert ours.steps_applied == theirs.steps_applied
        assert ours.get_last_lr() == theirs.get_last_lr()
        for p, q in zip(self.params(ours), self.params(theirs), strict=True):
            assert same_bits(p, q)
            assert p.isfinite().all()
            for key in ("momentum_buffer", "first_step", "ema", "master_param"):
                assert (key in ours.state[p]) == (key in theirs.state[q])
                # The mark of a parameter without elements marks nothing.
                if key in ours.state[p] and p.numel() > 0:
                    assert same_bits(ours.state[p][key], theirs.state[q][key])
            if p.grad is not None:
                assert same_bits(p.grad, q.grad)


def bytes_of(opt):
    tensors = [p for group in opt.param_groups for p in group["params"]]
    tensors += [v for entry in opt.state.values() for v in entry.values()]
    tensors += [p.grad for p in tensors if p.grad is not None]
    tensors.append(opt.lr_tensor())
    return [x.detach().reshape(-1).view(torch.uint8).tolist() for x in tensors]


class Launches:
    """Stands in for the kernel: runs it, and can run each launch again, as a graph does."""

    def __init__(self, monkeypatch):
        self.kernel = backend.kernel.sgd_step
        self.recorded = []
        monkeypatch.setattr(backend.kernel, "sgd_step", self)

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            self.recorded.append((grid, args, kwargs))
            self.kernel[grid](*args, **kwargs)

        return launch

    def replay(self, i):
        grid, args, kwargs = self.recorded[i]
        self.kernel[grid](*args, **kwargs)
