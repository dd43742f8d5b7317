"""One variant's compiled library, called by ctypes."""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
LR = 0.1


class Steps:
    """A step of plain SGD with momentum over some parameters, launched by a variant.

    Attributes:
        t: The count, on the parameters' device.
        momentum_buffers: One a parameter.
    """

    def __init__(self, library: Path, params: Sequence[Tensor], resident_blocks: int = 0) -> None:
        """Lay the launch out. resident_blocks: 0 asks the GPU."""
        self._library = ctypes.CDLL(str(library))
        self._library.make_launch.restype = ctypes.c_void_p
        self._library.cut.restype = ctypes.c_int64
        device = params[0].device
        self.t = torch.zeros((), dtype=torch.int64, device=device)
        self._lr = torch.zeros(1, dtype=torch.float64, device=device)
        self._ticket = torch.zeros((), dtype=torch.int32, device=device)
        self.momentum_buffers = [torch.zeros_like(p) for p in params]
        self._kept = list(params)
        grads = [p.grad for p in params if p.grad is not None]

        def addresses(tensors: Sequence[Tensor]) -> ctypes.Array:
            return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))

        self._launch = ctypes.c_void_p(
            self._library.make_launch(
                len(params),
                addresses(params),
                addresses(grads),
                addresses(self.momentum_buffers),
                (ctypes.c_int64 * len(params))(*(p.numel() for p in params)),
                DTYPES[params[0].dtype],
                DTYPES[grads[0].dtype],
                ctypes.c_double(LR),
                ctypes.c_double(MOMENTUM),
                ctypes.c_double(WEIGHT_DECAY),
                ctypes.c_void_p(self.t.data_ptr()),
                ctypes.c_void_p(self._lr.data_ptr()),
                ctypes.c_void_p(self._ticket.data_ptr()),
            )
        )
        self.dtypes: int = self._library.dtypes(self._launch)
        if resident_blocks == 0:
            resident_blocks = self._library.resident_blocks(self.dtypes)
            if resident_blocks <= 0:
                raise RuntimeError(f"CUDA's error {-resident_blocks} at the occupancy of {library}")
        size = self._library.cut(self._launch, resident_blocks)
        host = torch.empty(size, dtype=torch.uint8)
        self.args = ctypes.create_string_buffer(self._library.args_size())
        self._tables = torch.empty(size, dtype=torch.uint8, device=device)
        self._library.lay_out(
            self._launch,
            ctypes.c_void_p(self._tables.data_ptr()),
            ctypes.c_void_p(host.data_ptr()),
            self.args,
        )
        self._tables.copy_(host)
        self.n_blocks: int = self._library.n_blocks(self._launch)
        self.block_size: int = self._library.block_size()
        self.shared_bytes: int = self._library.shared_bytes(self._launch)

    def __del__(self) -> None:
        self._library.free_launch(self._launch)

    def __call__(self) -> None:
        """Launch a step on torch's current stream."""
        stream = torch.cuda.current_stream().cuda_stream
        what = (self.dtypes, self.n_blocks, self.shared_bytes, self.args)
        error = self._library.launch(*what, ctypes.c_void_p(stream))
        if error:
            raise RuntimeError(f"CUDA's error {error} at the launch of a variant")
