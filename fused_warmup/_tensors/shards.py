"""What is known of a tensor that is split over ranks: a DTensor, or a part of FSDP1's parameter."""

import sys

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether a tensor is a DTensor."""
    # Whoever has one has imported the module; others need not wait for it.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, getattr(module, "DTensor", ()))


def local_of(tensor: Tensor) -> Tensor:
    """Return what this rank holds of a DTensor; any other tensor as it is."""
    # Not to_local(): a kernel needs the very tensor, and autograd has no part in a step.
    return tensor._local_tensor if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def is_flat_shard(tensor: Tensor) -> bool:
    """Tell whether a parameter is a rank's part of FSDP1's flat parameter."""
    return getattr(tensor, "_fsdp_flattened", False) or getattr(tensor, "_is_flat_param", False)


def split_alike(a: Tensor, b: Tensor) -> bool:
    """Tell whether each rank holds the same elements of two tensors of equal shape."""
    if not (is_sharded(a) and is_sharded(b)):
        return not (is_sharded(a) or is_sharded(b))
    ours, theirs = a._spec, b._spec  # type: ignore[attr-defined]
    # FSDP2 gives a gradient its parameter's own spec.
    return ours is theirs or (ours.placements == theirs.placements and ours.mesh == theirs.mesh)


def split_as(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor's values split as ``like`` is; communicates only between two DTensors.

    A whole tensor is the same on every rank, so each takes its own part of it.
    """
    if split_alike(tensor, like):
        return tensor
    if not is_sharded(like):
        return tensor.full_tensor()  # type: ignore[attr-defined, no-any-return]
    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    if is_sharded(tensor):
        if tensor.device_mesh == mesh:  # type: ignore[attr-defined]
            return tensor.redistribute(mesh, placements)  # type: ignore[attr-defined, no-any-return]
        tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, mesh, placements, src_data_rank=None)


def any_nonzero(tensor: Tensor) -> Tensor:
    """Return whether a tensor holds anything but zeros, on its device; all ranks agree."""
    found = (tensor.detach() != 0).any()
    return found.full_tensor() if is_sharded(found) else found  # type: ignore[attr-defined]
