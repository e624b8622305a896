"""SRFT-GaLore: AdamW whose moments live in a low-rank subspace of each weight's gradient.

GaLore (Zhao et al., arXiv 2403.03507) keeps, for a weight W (m × n) with gradient G, Adam's moments of
PᵀG (k × n) instead of G, and moves W by P times the low-rank step. P is found again every `update_proj_gap`
steps; GaLore takes the leading singular vectors of G, SRFT-GaLore (arXiv 2511.03163) the range of a
subsampled randomized Fourier sketch, at a fraction of the cost; see `basis.py`.

For a weight in a group with `rank`, at step t with gradient G (for a right projection read G P for PᵀG):

    every `update_proj_gap` steps: P ← basis(G)
    g = PᵀG
    m ← β₁ m + (1 - β₁) g,   v ← β₂ v + (1 - β₂) g²
    W ← (1 - lr · weight_decay) W - lr · scale · P (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Partial
from torch.optim import Optimizer

from .param_groups import NONFINITE, check_group, with_side_of_galore
from .projection import Projection, local, parameter_name, plan_projections
from .update_rules import Update, apply_plain, apply_projected, batches, refresh, squares_are_finite


class SRFTGaLoreAdamW(Optimizer):
    """AdamW (decoupled weight decay) with low-rank moments for the groups that have a `rank`.

    The settings you will actually change: `lr`, `weight_decay`, and in a group `rank`,
    `update_proj_gap`, `scale`. Every setting but `nonfinite` may stand in a parameter group. In a group that
    is at work, `rank`, `side`, `proj_type`, `matrix_axes`, `stagger` and `seed` must stay as they are.

    State, tensors only: `step`, `exp_avg`, `exp_avg_sq`, and for projected weights `refresh_count` and
    `basis`: k (long + 2 short) numbers for a long × short weight. Moments and bases are float32 for weights
    of half precision (float64 moments for float64 weights). Random draws depend on `seed`, the parameter's
    position and its refresh count alone.

    Parameters may be sharded by rows (`fully_shard`): state is sharded likewise, bases are equal on all
    processes, and processes communicate at a refresh only, which gathers one weight's gradient.

    Args:
        params: Parameters, named parameters, or groups; a group may hold any of the settings below.
        lr: Learning rate.
        betas: Decay rates of the moments.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled: a weight shrinks by lr · weight_decay a step.
        maximize: Climb instead of descend.
        foreach: Batch equal shapes: one transform, QR and product for many weights, at the price of a
            copy of their gradients (at most 128 MiB of them at a time). None: on GPUs, not on CPUs, where
            a loop is faster.
        nonfinite: A gradient that is NaN, infinite, or too large to be squared (1.8e19 in float32): `raise`
            a FloatingPointError that names the parameter, or `skip` the whole step (`last_step_skipped`
            says so); neither touches weights or state. With sharded parameters `skip` costs an all-reduce
            of one number a step; `raise` costs none, and only the processes that hold the bad rows raise,
            while the others wait for them until the process group's time is up.
        rank: k, clipped to each matrix; None: plain AdamW.
        update_proj_gap: Steps between two refreshes of the same basis.
        scale: Factor on the projected step (GaLore's α).
        proj_type: `srft`, `srft_energy`, `srft_oblivious`, `gaussian` or `svd`; GaLore's `std`,
            `reverse_std`, `left` and `right` are taken as a side.
        side: `longer`, `shorter`, `left` or `right`; `longer` means `right` for sharded parameters, so
            choose `right` where a checkpoint is to move between sharded and whole ones.
        oversampling: Extra columns of the sketch, cut back to `rank`.
        power_iterations: Passes over the gradient that sharpen the basis; one is worth it where the
            spectrum decays slowly.
        warm_start: Refresh by one pass from the last basis instead of a new sketch.
        singular_basis: Rotate each basis to singular-like directions.
        moment_transfer: What a refresh does to the moments: `none` leaves their numbers (the paper and
            GaLore), `rotate` carries them into the new basis.
        stagger: Refresh different weights at different steps of the gap. The first step computes all.
        matrix_axes: For weights of other than two dimensions: (row axes, column axes), as ((0,), (1, 2, 3))
            for a convolution; axes that neither names are a batch of matrices.
        seed: Of all random draws.

    Raises:
        ValueError: a setting out of its range, or a parameter that its group cannot project; by name.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        nonfinite: str = "raise",
        rank: int | None = None,
        update_proj_gap: int = 50,
        scale: float = 1.0,
        proj_type: str = "srft",
        side: str = "longer",
        oversampling: int = 0,
        power_iterations: int = 0,
        warm_start: bool = False,
        singular_basis: bool = False,
        moment_transfer: str = "none",
        stagger: bool = True,
        matrix_axes: Sequence[Sequence[int]] | None = None,
        seed: int = 0,
    ) -> None:
        if nonfinite not in NONFINITE:
            raise ValueError(f"nonfinite: {nonfinite!r} is unknown: choose one of {', '.join(NONFINITE)}")
        defaults = dict(
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            maximize=maximize,
            foreach=foreach,
            rank=rank,
            update_proj_gap=update_proj_gap,
            scale=scale,
            proj_type=proj_type,
            side=side,
            oversampling=oversampling,
            power_iterations=power_iterations,
            warm_start=warm_start,
            singular_basis=singular_basis,
            moment_transfer=moment_transfer,
            stagger=stagger,
            matrix_axes=matrix_axes,
            seed=seed,
        )
        defaults = {"proj_type": "srft"} | with_side_of_galore(defaults)
        self._nonfinite = nonfinite
        self.last_step_skipped = False
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; one with a setting or parameter that cannot be is refused and leaves nothing."""
        group = with_side_of_galore(dict(param_group))
        check_group(self.defaults | group)
        super().add_param_group(group)
        try:
            self._plan()
        except (ValueError, TypeError):
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves every parameter that has a gradient.

        Args:
            closure: Computes loss and gradients again; called with gradients enabled.

        Returns:
            What the closure returned.

        Raises:
            FloatingPointError: a gradient that is not finite, with `nonfinite="raise"`.
            TypeError: a sparse or complex gradient.
        """
        self.last_step_skipped = False
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        updates = [
            self._update_of(parameter, *place)
            for parameter, place in self._places.items()
            if parameter.grad is not None
        ]
        if updates:
            self.last_step_skipped = not self._is_finite(updates)
            if not self.last_step_skipped:
                self._apply(updates)
        return loss

    @torch.no_grad()
    def step_parameter(self, parameter: torch.Tensor) -> bool:
        """Moves one parameter by its gradient: a step's part, for the layer-wise mode.

        Returns:
            False if a gradient that is not finite was skipped.
        """
        update = self._update_of(parameter, *self._places[parameter])
        finite = self._is_finite([update])
        if finite:
            self._apply([update])
        return finite

    def _update_of(self, parameter: torch.Tensor, group_index: int, index: int) -> Update:
        group, gradient = self.param_groups[group_index], parameter.grad
        name = parameter_name(group, group_index, index)
        if gradient.layout != torch.strided or gradient.is_complex():
            kind = "complex" if gradient.is_complex() else "sparse"
            raise TypeError(f"{name} has a {kind} gradient: only dense real ones are supported")
        return Update(
            parameter=parameter,
            gradient=local(gradient),
            name=name,
            group=group,
            # An entry of its own only once it steps: an empty one would count as initialized elsewhere.
            state=self.state.get(parameter, {}),
            projection=self._projections.get(parameter),
        )

    def _plan(self) -> None:
        """Everything that follows from the groups; anew whenever they change."""
        self._projections = plan_projections(self.param_groups)
        self._places = {
            parameter: (group_index, index)
            for group_index, group in enumerate(self.param_groups)
            for index, parameter in enumerate(group["params"])
        }

    def _is_finite(self, updates: list[Update]) -> bool:
        finite = squares_are_finite([update.gradient for update in updates])
        if self._nonfinite == "skip":
            # Processes must agree: one that steps alone would have another basis from then on.
            sharded = (update.parameter for update in updates if isinstance(update.parameter, DTensor))
            # In the parameters' order, which all processes share.
            for mesh in dict.fromkeys(parameter.device_mesh for parameter in sharded):
                bad = torch.tensor(float(not finite), device=updates[0].gradient.device)
                everywhere = DTensor.from_local(bad, mesh, [Partial("max")] * mesh.ndim, run_check=False)
                finite = everywhere.full_tensor().item() == 0
        if finite:
            return True
        if self._nonfinite == "raise":
            culprit = next(u for u in updates if not squares_are_finite([u.gradient]))
            raise FloatingPointError(
                f"the gradient of {culprit.name} is not finite, or its square is not; nothing was changed: "
                "lower lr, clip the gradients, or pass nonfinite='skip'"
            )
        return False

    def _apply(self, updates: list[Update]) -> None:
        for update in updates:
            update.init_state()
            self.state[update.parameter] = update.state
            update.state["step"] += 1
        for batch in batches(updates):
            if batch[0].projection is None:
                apply_plain(batch)
            else:
                due = [update for update in batch if update.is_due()]
                if due:
                    refresh(due)
                apply_projected(batch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a `state_dict()`, each tensor in a precision of its own and shared with nothing.

        Raises:
            ValueError: groups or states that do not fit this optimizer's parameters; all stays as it was.
        """
        before = self.state, self.param_groups
        loaded: dict[str, Any] = {}

        def keep(_: Optimizer, state_dict: dict[str, Any]) -> None:
            check_groups(self.param_groups, state_dict["param_groups"])
            loaded.update(state_dict)

        # Behind the hooks that rewrite the argument, and before those that look at what has been loaded:
        # in between, PyTorch casts all state to the parameters' dtype and shares what needs no cast.
        hooks = [
            self.register_load_state_dict_pre_hook(keep),
            self.register_load_state_dict_post_hook(lambda _: self._restore(loaded), prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        except (ValueError, TypeError, AttributeError, KeyError):
            self.state, self.param_groups = before
            self._plan()
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def _restore(self, state_dict: dict[str, Any]) -> None:
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        identifiers = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        for identifier, parameter in zip(identifiers, parameters, strict=True):
            saved = state_dict["state"].get(identifier)
            if saved:
                group_index, index = self._places[parameter]
                group = self.param_groups[group_index]
                self.state[parameter] = restored_state(
                    saved,
                    parameter,
                    self._projections.get(parameter),
                    stores_basis=group["proj_type"] != "srft_oblivious",
                    name=parameter_name(group, group_index, index),
                )

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_nonfinite": self._nonfinite}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # PyTorch's addition: a group that gained it here would no longer fit an older distributed checkpoint.
        self.defaults.pop("differentiable", None)
        for group in self.param_groups:
            sided = with_side_of_galore(group)
            if sided is not group:
                del group["proj_type"]
                group["side"] = sided["side"]
            for name, default in self.defaults.items():
                group.setdefault(name, default)
            check_group(group)
        self.last_step_skipped = False
        self._plan()


# Taking over a saved state: what fits which parameter, in which precision and where.

# Scalars that stay on the CPU: reading them must not wait for a GPU.
_COUNTERS = {"step": torch.float32, "refresh_count": torch.int64}


def check_groups(groups: Sequence[dict[str, Any]], saved_groups: Sequence[dict[str, Any]]) -> None:
    """Raises a ValueError where saved groups cannot be those of an optimizer with `groups`."""
    if len(groups) != len(saved_groups):
        raise ValueError(
            f"the loaded state has {len(saved_groups)} parameter group(s), this optimizer {len(groups)}: "
            "build it as the one that was saved"
        )
    for index, (group, saved) in enumerate(zip(groups, saved_groups, strict=True)):
        if len(group["params"]) != len(saved["params"]):
            raise ValueError(
                f"group {index} of the loaded state has {len(saved['params'])} parameter(s), this "
                f"optimizer's {len(group['params'])}{_first_difference(group, saved)}: build it as the one "
                "that was saved"
            )
        ours, theirs = group.get("param_names"), saved.get("param_names")
        if ours and theirs and ours != theirs and sorted(ours) == sorted(theirs):
            name = next(name for name, other in zip(ours, theirs, strict=True) if name != other)
            raise ValueError(
                f"group {index} of the loaded state has its parameters in another order, from {name} on: "
                "build the optimizer as the one that was saved"
            )
        if group["rank"] is not None and "rank" not in saved:
            raise ValueError(
                f"group {index} of the loaded state has no rank, this optimizer's has {group['rank']}: "
                "the state is another optimizer's"
            )


def _first_difference(group: dict[str, Any], saved: dict[str, Any]) -> str:
    """The first name that only one of two groups of different sizes has; nothing without names."""
    ours, theirs = group.get("param_names", []), saved.get("param_names", [])
    alone = [name for name in [*ours, *theirs] if (name in ours) != (name in theirs)]
    return f" (only one has {alone[0]})" if ours and theirs and alone else ""


def restored_state(
    saved: dict[str, torch.Tensor],
    parameter: torch.Tensor,
    projection: Projection | None,
    stores_basis: bool,
    name: str,
) -> dict[str, torch.Tensor]:
    """Copies of one parameter's saved state, where and in the precision that steps need them.

    Args:
        saved: Its part of a `state_dict()`.
        parameter: The parameter.
        projection: How it is projected; None: not at all.
        stores_basis: Whether its basis is state.
        name: Its name, for the message.

    Raises:
        ValueError: an entry that is missing or of another shape.
    """
    moments = torch.promote_types(parameter.dtype, torch.float32)
    shape = tuple(parameter.shape if projection is None else projection.moment_shape)
    expected: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "step": ((), _COUNTERS["step"]),
        "exp_avg": (shape, moments),
        "exp_avg_sq": (shape, moments),
    }
    if projection is not None:
        expected["refresh_count"] = ((), _COUNTERS["refresh_count"])
        if stores_basis:
            expected["basis"] = (tuple(projection.basis_shape), torch.float32)
    restored = {}
    for key, (shape, dtype) in expected.items():
        value = saved.get(key)
        if not isinstance(value, torch.Tensor):
            problem = "missing" if key not in saved else "no tensor"
            raise ValueError(f"the state of {name} does not fit: {key} is {problem}, expected {shape}")
        found = tuple(value.shape)
        if found != shape:
            raise ValueError(f"the state of {name} does not fit: {key} is {found}, expected {shape}")
        if key not in _COUNTERS and isinstance(value, DTensor) != isinstance(parameter, DTensor):
            raise ValueError(
                f"the state of {name} does not fit: of {key} and the parameter only one is sharded: load it "
                "by torch.distributed.checkpoint"
            )
        device = "cpu" if key in _COUNTERS else parameter.device
        restored[key] = saved[key].detach().to(device, dtype, copy=True)
    return restored
