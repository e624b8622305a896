"""Whether gradients are fit for Adam's second moment, at the price of one pass that reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def squares_are_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether no entry of any tensor is NaN, infinite, or so large that its square is (1.8e19 in float32).

    Waits for the device once. A sum of squares that is finite has finite terms, and is 20 times as fast as a
    look at each (1728 × 576, one CPU thread). One that is not may have overflowed: then each is looked at.
    """
    tensors = [tensor.detach() for tensor in tensors if tensor.numel()]
    if not tensors:
        return True
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    # On a GPU one kernel for many tensors. Norms overflow as sums of squares do.
    norms = torch._foreach_norm(tensors, 2, dtype=dtype)
    if torch.isfinite(torch.stack([norm.to(norms[0].device) for norm in norms]).double().sum()).item():
        return True
    return all(bool(torch.isfinite(tensor.to(dtype).square()).all()) for tensor in tensors)
