"""A trained model and its image processor from a folder or the Hub, or one line on why not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModel, PretrainedConfig

from ..model import LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor


class ModelLoadError(ValueError):
    """A model that cannot be loaded; the message is one line that names it and the reason."""


def load_model_and_processor(
    model_id: str | Path, *, device: str | torch.device | None = None
) -> tuple[LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor]:
    """A trained model, float32 and in evaluation mode, and its image processor.

    Args:
        model_id: A folder that `save_pretrained` wrote, or a Hub id.
        device: Where the model goes; None takes an accelerator where there is one.

    Raises:
        ModelLoadError: not found, of another type, with weights missing or of other shapes, or a device
            that is not there.
    """
    name, target = str(model_id), _usable_device(device)
    try:
        config, _ = PretrainedConfig.get_config_dict(name)
        model_type = config.get("model_type", "not given") if isinstance(config, dict) else "not given"
        if model_type != LiverLandmarkConfig.model_type:
            raise ModelLoadError(
                f"model {name}: its type is {model_type}, expected {LiverLandmarkConfig.model_type}"
            )
        model, info = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        for problem in ("missing_keys", "mismatched_keys"):
            if info[problem]:
                raise ModelLoadError(
                    f"model {name}: {len(info[problem])} {problem.replace('_', ' ')}, "
                    f"{sorted(map(str, info[problem]))[0]} first: not a complete checkpoint of this version"
                )
        processor = AutoImageProcessor.from_pretrained(name)
        return model.eval().to(target), processor
    except ModelLoadError:
        raise
    # TypeError: a field of a configuration that is unknown or of the wrong type.
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelLoadError(f"model {name}: {_first_line(error)}") from error


def model_revision(model_id: str | Path, model: LiverLandmarkForSemanticSegmentation) -> str:
    """What tells these weights and this configuration from others: the Hub's commit, or a folder's digest."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit:
        return str(commit)
    digest = hashlib.sha256()
    folder = Path(model_id)
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        digest.update(file.name.encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _usable_device(device: str | torch.device | None) -> torch.device:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        usable = torch.device(device)
    except RuntimeError as error:
        raise ModelLoadError(f"device {device!r}: {_first_line(error)}") from error
    if usable.type != "cpu" and (accelerator is None or usable.type != accelerator.type):
        found = "cpu" if accelerator is None else f"cpu, {accelerator.type}"
        raise ModelLoadError(f"device {device!r} is not available here (there is: {found})")
    return usable


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
