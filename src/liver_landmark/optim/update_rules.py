"""One step over parameters that share their settings: refresh the bases, project, Adam, move the weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from .basis import draw_seed, find_basis, largest_entry, oblivious_basis
from .projection import Projection, local, replicated_like, zeros_of_rows

# Entries of the gradients that are stacked for one batched product: 128 MiB of float32.
_BATCH_ENTRIES = 2**25


@dataclass
class Update:
    """One parameter's part of a step; of a sharded parameter, this process's rows."""

    parameter: torch.Tensor
    gradient: torch.Tensor
    name: str
    group: dict[str, Any]
    state: dict[str, Any]
    projection: Projection | None

    def __post_init__(self) -> None:
        whole = self.parameter.grad
        if isinstance(whole, DTensor) and whole.placements != self.parameter.placements:
            # Each process would move its part by other numbers.
            raise ValueError(
                f"the gradient of {self.name} is placed as {whole.placements}, the weight as "
                f"{self.parameter.placements}: redistribute the gradient as the weight is before the step"
            )

    @property
    def step(self) -> int:
        """Steps done, this one included once it is counted."""
        return int(self.state["step"])

    @property
    def weight(self) -> torch.Tensor:
        return local(self.parameter)

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic and the moments: at least float32."""
        return torch.promote_types(self.parameter.dtype, torch.float32)

    def init_state(self) -> None:
        """Moments of zero; the basis comes with the first gradient."""
        if self.state:
            return
        self.state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
        for name in ("exp_avg", "exp_avg_sq"):
            if self.projection is None:
                self.state[name] = torch.zeros_like(self.parameter, dtype=self.dtype)
            else:
                self.state[name] = zeros_of_rows(self.projection.moment_shape, self.dtype, self.parameter)
        if self.projection is not None:
            self.state["refresh_count"] = torch.zeros((), dtype=torch.int64, device="cpu")

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Adam's averages of the gradient and of its square, this rank's part."""
        return local(self.state["exp_avg"]), local(self.state["exp_avg_sq"])

    def matrix(self) -> torch.Tensor:
        """The gradient as (…, rows, columns)."""
        return self.projection.to_matrix(self.gradient).to(self.dtype)

    def whole_matrix(self) -> torch.Tensor:
        """The gradient of all processes' rows: the one place where processes communicate."""
        gradient = self.parameter.grad
        if isinstance(gradient, DTensor):
            gradient = gradient.full_tensor()
        return self.projection.to_matrix(gradient).to(self.dtype)

    def seed(self, ahead: int = 0) -> int:
        """The seed of the basis after so many more refreshes than there have been."""
        count = int(self.state["refresh_count"]) + ahead
        return draw_seed(self.group["seed"], self.projection.ordinal, count)

    def is_due(self) -> bool:
        """Whether the basis is refreshed before this step, which has been counted already."""
        gap = self.group["update_proj_gap"]
        # The gap may have been changed since the offset was planned.
        on_turn = (self.step - 1) % gap == self.projection.offset % gap
        return on_turn or int(self.state["refresh_count"]) == 0


def batches(updates: Iterable[Update]) -> Iterator[list[Update]]:
    """The updates in batches that share all settings, and for projected ones also the matrix's shape."""
    batches: dict[Any, list[Update]] = defaultdict(list)
    for index, update in enumerate(updates):
        foreach = update.group["foreach"]
        if foreach is None:
            foreach = update.gradient.device.type != "cpu"
        key: tuple[Any, ...] = (id(update.group), update.gradient.device, update.parameter.dtype)
        projection = update.projection
        if projection is not None:
            key += (projection.shape, projection.axes, projection.side, update.gradient.shape)
            if isinstance(update.parameter, DTensor):
                key += (update.parameter.device_mesh, update.parameter.placements)
        batches[key if foreach else index].append(update)
    for batch in batches.values():
        if batch[0].projection is None:
            yield batch
            continue
        # Of whole matrices, which a refresh gathers: equal on all processes, however many rows each holds.
        size = max(1, _BATCH_ENTRIES // math.prod(batch[0].projection.shape))
        for start in range(0, len(batch), size):
            yield batch[start : start + size]


def _stack(tensors: list[torch.Tensor]) -> torch.Tensor:
    """One tensor as it is; several stacked."""
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors)


def _unstack(tensor: torch.Tensor, count: int) -> list[torch.Tensor]:
    return [tensor] if count == 1 else list(tensor.unbind())


def refresh(updates: list[Update]) -> None:
    """Gives every update, all of one shape and group, a new basis; moments follow as the group says."""
    group = updates[0].group
    counts = [int(update.state["refresh_count"]) for update in updates]
    rotates = group["moment_transfer"] == "rotate"
    former = [bases_of([u]) if rotates and count else None for u, count in zip(updates, counts, strict=True)]
    if group["proj_type"] == "srft_oblivious":
        for update in updates:
            update.state["refresh_count"] += 1
    else:
        _refresh_from_gradients(updates)
    for update, basis, count in zip(updates, former, counts, strict=True):
        if basis is not None and int(update.state["refresh_count"]) > count:
            _rotate(update, basis)


def bases_of(updates: list[Update]) -> torch.Tensor:
    """The bases in use of updates of one shape and group: one as it is, several stacked."""
    projection, dtype = updates[0].projection, updates[0].dtype
    if updates[0].group["proj_type"] != "srft_oblivious":
        return _stack([local(update.state["basis"]) for update in updates]).to(dtype)
    # Made anew; the count is one ahead of the basis in use.
    seeds = [update.seed(-1) for update in updates]
    bases = oblivious_basis(projection.basis_shape[-2], projection.rank, seeds, updates[0].gradient.device)
    for _ in projection.shape[:-2]:
        bases = bases.unsqueeze(-3)
    stacked = (len(updates),) if len(updates) > 1 else ()
    return bases.expand(*stacked, *projection.basis_shape).to(dtype)


def _refresh_from_gradients(updates: list[Update]) -> None:
    matrices = [update.whole_matrix() for update in updates]
    nonzero = torch.stack([largest_entry(matrix).amax() > 0 for matrix in matrices]).tolist()
    alike: dict[Any, list[tuple[torch.Tensor, Update]]] = defaultdict(list)
    for matrix, update, holds in zip(matrices, updates, nonzero, strict=True):
        if holds:
            warm = update.group["warm_start"] and int(update.state["refresh_count"]) > 0
            # Of N-D weights each is a batch already, whose matrices share one seed.
            alike[warm, update.seed() if matrix.dim() > 2 else None].append((matrix, update))
        elif "basis" not in update.state:
            # It stands until a gradient says more: the count stays 0, so that the next one is asked.
            projection = update.projection
            basis = oblivious_basis(
                projection.basis_shape[-2], projection.rank, [update.seed()], matrix.device
            )
            _set_basis(update, basis.expand(projection.basis_shape))
    for (warm, _), members in alike.items():
        _set_bases_of([m for m, _ in members], [u for _, u in members], warm)


def _set_bases_of(matrices: list[torch.Tensor], updates: list[Update], warm: bool) -> None:
    group, projection = updates[0].group, updates[0].projection
    bases = find_basis(
        projection.long_side_first(_stack(matrices)),
        projection.rank,
        [update.seed() for update in updates],
        proj_type=group["proj_type"],
        oversampling=group["oversampling"],
        power_iterations=group["power_iterations"],
        start=bases_of(updates) if warm else None,
        singular=group["singular_basis"],
    )
    for update, basis in zip(updates, _unstack(bases, len(updates)), strict=True):
        _set_basis(update, basis)
        update.state["refresh_count"] += 1


def _set_basis(update: Update, basis: torch.Tensor) -> None:
    # A copy of its own: a slice of a batch would keep the whole batch alive.
    basis = basis.to(torch.float32).clone(memory_format=torch.contiguous_format)
    update.state["basis"] = replicated_like(basis, update.parameter)


def _rotate(update: Update, former: torch.Tensor) -> None:
    steps = update.step - 1
    if steps < 1:
        return
    average, square = update.moments()
    rotation = bases_of([update]).mT @ former
    if update.projection.side == "right":
        average, square = average.mT, square.mT
    rotate_moments(average, square, rotation, steps, update.group["betas"])


def apply_plain(updates: list[Update]) -> None:
    """AdamW on whole gradients."""
    group = updates[0].group
    gradients = [update.gradient.to(update.dtype) for update in updates]
    averages, squares = map(list, zip(*(update.moments() for update in updates), strict=True))
    update_moments(gradients, averages, squares, group["betas"])
    steps = [update.step for update in updates]
    roots = denominators(squares, steps, group["betas"][1], group["eps"])
    weights = [update.weight for update in updates]
    lr = float(group["lr"])
    _shrink(weights, 1 - lr * group["weight_decay"])
    sizes = [_signed(group, lr) * factor for factor in step_factors(steps, group["betas"])]
    if weights[0].dtype == averages[0].dtype:
        torch._foreach_addcdiv_(weights, averages, roots, sizes)
        return
    for weight, average, root, size in zip(weights, averages, roots, sizes, strict=True):
        weight.add_(average.div(root), alpha=size)


def apply_projected(updates: list[Update]) -> None:
    """AdamW on projected gradients; all updates of one shape and group."""
    group, projection = updates[0].group, updates[0].projection
    count = len(updates)
    basis = bases_of(updates)
    low = projection.project(_stack([update.matrix() for update in updates]), basis)
    averages, squares = map(list, zip(*(update.moments() for update in updates), strict=True))
    update_moments(_unstack(low, count), averages, squares, group["betas"])
    steps = [update.step for update in updates]
    roots = denominators(squares, steps, group["betas"][1], group["eps"])
    directions = torch._foreach_div(averages, roots)
    factors = step_factors(steps, group["betas"])

    lr = float(group["lr"])
    size = _signed(group, lr * group["scale"])
    decay = 1 - lr * group["weight_decay"]
    weight = updates[0].weight
    if count == 1 and projection.is_plain and weight.dtype == basis.dtype:
        # Product, decay and sum in one pass over the weight.
        left, right = (basis, directions[0]) if projection.side == "left" else (directions[0], basis.mT)
        weight.addmm_(left, right, beta=decay, alpha=size * factors[0])
        return
    # Multiplied here, where they are small, because each weight has a bias correction of its own.
    torch._foreach_mul_(directions, factors)
    moved = _unstack(projection.project_back(_stack(directions), basis), count)
    weights = [update.weight for update in updates]
    _shrink(weights, decay)
    steps_of = [projection.from_matrix(matrix, weight) for matrix, weight in zip(moved, weights, strict=True)]
    torch._foreach_add_(weights, steps_of, alpha=size)


def _shrink(weights: list[torch.Tensor], factor: float) -> None:
    """Decoupled weight decay; none costs nothing."""
    if factor != 1:
        torch._foreach_mul_(weights, factor)


def _signed(group: dict[str, Any], size: float) -> float:
    return size if group["maximize"] else -size


# Adam's moments and directions (Kingma, Ba, arXiv 1412.6980), over lists of tensors of one device.


def update_moments(
    gradients: list[torch.Tensor],
    averages: list[torch.Tensor],
    squares: list[torch.Tensor],
    betas: Sequence[float],
) -> None:
    """m ← β₁ m + (1 - β₁) g and v ← β₂ v + (1 - β₂) g², in place; all of one dtype."""
    torch._foreach_lerp_(averages, gradients, 1 - betas[0])
    torch._foreach_mul_(squares, betas[1])
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - betas[1])


def denominators(
    squares: list[torch.Tensor], steps: Sequence[int], beta2: float, eps: float
) -> list[torch.Tensor]:
    """√v + ε √(1 - β₂ᵗ), new tensors: what stands below m once the corrections are in `step_factors`."""
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, [eps * math.sqrt(1 - beta2**step) for step in steps])
    return roots


def step_factors(steps: Sequence[int], betas: Sequence[float]) -> list[float]:
    """√(1 - β₂ᵗ) / (1 - β₁ᵗ): both bias corrections as one number, so that they cost no pass of their own."""
    return [math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step) for step in steps]


def rotate_moments(
    average: torch.Tensor, square: torch.Tensor, rotation: torch.Tensor, step: int, betas: Sequence[float]
) -> None:
    """Carries moments of k × n low-rank gradients into a new basis, in place.

    With C = P_newᵀ P_old the new gradient is about C times the old one, and so m ← C m. The second moment
    is a variance plus a squared mean; if the old coordinates are uncorrelated, C maps the variances by its
    squared entries: v ← C² (v - m²) + (C m)², on bias-corrected moments (LDAdam, Robert et al.,
    arXiv 2410.16103, section 3.2). Where v < m², as decay rates of their own allow, the variance counts as
    none; LDAdam takes the magnitude of the sum instead. O(k² n).

    Args:
        average, square: m and v (…, k, n).
        rotation: C (…, k, k).
        step: Steps that the moments have seen, at least 1.
        betas: β₁, β₂.
    """
    correction1, correction2 = 1 - betas[0] ** step, 1 - betas[1] ** step
    mean = average / correction1
    # A square that has overflowed stays huge, and spoils no other.
    most = torch.finfo(square.dtype).max / (2 * rotation.shape[-1])
    variance = (square / correction2).clamp_max_(most).sub_(mean.square().clamp_max_(most)).clamp_min_(0)
    rotated = rotation @ mean
    square.copy_((rotation.square() @ variance + rotated.square()) * correction2)
    average.copy_(rotated * correction1)


# Whether gradients are fit for Adam's second moment, by one pass that reads them.


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
