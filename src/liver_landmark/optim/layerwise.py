"""Layer-wise mode: each gradient is used and freed as soon as backward has made it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Partial, Replicate

from .projection import local
from .srft_galore_adamw import SRFTGaLoreAdamW


@dataclass(frozen=True)
class LayerwiseStep:
    """What the last step did.

    Attributes:
        lr: The first group's learning rate, as it was used.
        grad_norm: Total norm of the gradients that were used; of sharded ones the whole, on every process.
        skipped: Parameters whose gradient was not finite and was skipped.
    """

    lr: float
    grad_norm: float
    skipped: int


class LayerwiseStepper:
    """Moves each parameter from a hook of backward, and frees its gradient there.

    The training loop stays as it is: `loss.backward(); optimizer.step(); scheduler.step()`.
    `optimizer.step()` finds no gradients left; it ends the step. One optimizer holds all parameters, so
    schedulers, `state_dict` and resuming work as without this mode.

    With accumulation, gradients are kept over the first passes, as they must be, and freed in the last.
    Clipping by the total norm is not possible: the norm is known when every weight has moved. Nor is a
    gradient scaler's unscaling. A gradient that is not finite is refused or skipped by itself, when the
    weights before it have moved. With sharded parameters the norm costs an all-reduce of one number, and
    `nonfinite="skip"` one for each parameter.

    Args:
        optimizer: Its parameters get the hooks.
        accumulation_steps: Backward passes per step; those that `set_requires_gradient_sync(False)` keeps
            from communicating under `fully_shard` do not count.

    Raises:
        ValueError: accumulation_steps below 1.
        RuntimeError: several processes without sharding, as under DistributedDataParallel, which averages
            gradients only after these hooks have run. Sharded parameters (`fully_shard`) are fine.
    """

    def __init__(self, optimizer: SRFTGaLoreAdamW, accumulation_steps: int = 1) -> None:
        if not isinstance(accumulation_steps, int) or accumulation_steps < 1:
            raise ValueError(f"accumulation_steps must be an integer of at least 1, got {accumulation_steps}")
        self.optimizer = optimizer
        self.accumulation_steps = accumulation_steps
        self.last_step: LayerwiseStep | None = None
        self._passes: dict[torch.Tensor, int] = {}
        self._start()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in parameters:
            _refuse_data_parallel(parameter)
        self._handles: list[Any] = [
            parameter.register_post_accumulate_grad_hook(self._on_gradient)
            for parameter in parameters
            if parameter.requires_grad
        ]
        self._handles.append(optimizer.register_step_pre_hook(self._before_step))
        self._handles.append(optimizer.register_step_post_hook(self._after_step))

    def remove(self) -> None:
        """Back to the ordinary mode."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _start(self) -> None:
        self._passes.clear()
        self._norms: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._lr: float | None = None
        self._skipped = 0

    def _on_gradient(self, parameter: torch.Tensor) -> None:
        _refuse_data_parallel(parameter)
        passes = self._passes.get(parameter, 0) + 1
        self._passes[parameter] = passes
        if passes == self.accumulation_steps:
            self._use(parameter)
        elif passes > self.accumulation_steps:
            raise RuntimeError(
                f"more than accumulation_steps={self.accumulation_steps} backward passes without "
                "optimizer.step(): call it after each accumulation"
            )

    def _use(self, parameter: torch.Tensor) -> None:
        gradient = local(parameter.grad).detach()
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        norm = torch.linalg.vector_norm(gradient, dtype=dtype)
        self._lr = float(self.optimizer.param_groups[0]["lr"])
        try:
            used = self.optimizer.step_parameter(parameter)
        except FloatingPointError:
            # Whoever goes on after it starts a step anew.
            self._start()
            raise
        if used:
            self._norms.append((parameter, norm))
        else:
            self._skipped += 1
        parameter.grad = None

    def _before_step(self, *_: Any) -> None:
        # Parameters that took part in fewer passes than the others.
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._use(parameter)

    def _after_step(self, *_: Any) -> None:
        if self._lr is not None:
            self.last_step = LayerwiseStep(self._lr, _total_norm(self._norms), self._skipped)
        self._start()


def _total_norm(norms: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Of (parameter, norm of this process's part of its gradient); an all-reduce for each way of sharding."""
    parts: dict[Any, list[float]] = {}
    # One wait for the device.
    values = torch.stack([norm.double() for _, norm in norms]).tolist() if norms else []
    for (parameter, _), value in zip(norms, values, strict=True):
        layout = (parameter.device_mesh, parameter.placements) if isinstance(parameter, DTensor) else None
        parts.setdefault(layout, []).append(value)
    squares = []
    for layout, part in parts.items():
        square = math.hypot(*part) ** 2
        if layout is not None:
            mesh, placements = layout
            # Shards add up, replicas do not.
            summed = [Replicate() if placement == Replicate() else Partial() for placement in placements]
            number = torch.tensor(square, dtype=torch.float64, device=mesh.device_type)
            square = DTensor.from_local(number, mesh, summed, run_check=False).full_tensor().item()
        squares.append(square)
    return math.sqrt(sum(squares))


def _refuse_data_parallel(parameter: torch.Tensor) -> None:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and torch.distributed.get_world_size() > 1 and not isinstance(parameter, DTensor):
        raise RuntimeError(
            "layer-wise mode does not work with DistributedDataParallel, which averages gradients after "
            "they have been used: shard the model with fully_shard, or use one process"
        )
