"""run.json: from what and with what a model was trained, and what came of it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import cv2
import torch
from torch import nn

_PACKAGES = (
    "liver-landmark",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "safetensors",
    "numpy",
    "pillow",
)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what training computes."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    # OpenCV comes as one of several distributions.
    return versions | {"opencv": cv2.__version__}


def device_name(device: torch.device) -> str:
    """What the device is called: a GPU's product name, else the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def count_parameters(model: nn.Module) -> dict[str, int]:
    """{"total", "trainable"} numbers of parameters."""
    return {
        "total": sum(parameter.numel() for parameter in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }


def run_record(
    identity: dict[str, Any], model: nn.Module, device: torch.device, status: str, **outcome: Any
) -> dict[str, Any]:
    """The content of run.json.

    Args:
        identity: What `resume.run_identity` gave: recipe, data fingerprints, number of processes.
        model: The model.
        device: What it trains on.
        status: `running` or `finished`.
        **outcome: Steps, seconds, scores …
    """
    return {
        "status": status,
        **outcome,
        **identity,
        "device": device_name(device),
        "parameters": count_parameters(model),
        "versions": package_versions(),
    }
