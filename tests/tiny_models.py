"""Small models for the tests: every part of the real ones, in a second."""

from __future__ import annotations

from typing import Any

import torch

from liver_landmark import LiverLandmarkConfig, LiverLandmarkForSemanticSegmentation

TINY_HIERA: dict[str, Any] = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 16,
    "num_attention_heads": 1,
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [16, 32, 64, 128],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    # query_stride halves the window of the stage it opens, so the last stage's is half the others'.
    "window_size_per_stage": [4, 4, 4, 2],
    "global_attention_blocks": [3],
}
TINY_VISION: dict[str, Any] = {
    "model_type": "sam2_vision_model",
    "backbone_config": TINY_HIERA,
    "backbone_channel_list": [128, 64, 32, 16],
    "fpn_hidden_size": 32,
}
TINY_DEPTH: dict[str, Any] = {
    "model_type": "dinov2",
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 70,
    "patch_size": 14,
    "out_indices": [1, 2, 3, 4],
}


def tiny_config(**fields: Any) -> LiverLandmarkConfig:
    """A configuration of 0.4 M parameters for frames around 128 px."""
    settings: dict[str, Any] = {
        "vision_config": TINY_VISION,
        "depth_config": TINY_DEPTH,
        "image_size": 128,
        "depth_image_size": 70,
        "decoder_channels": [32, 16, 8],
    }
    return LiverLandmarkConfig(**(settings | fields))


def tiny_model(seed: int = 0, open_gate: bool = True, **fields: Any) -> LiverLandmarkForSemanticSegmentation:
    """A tiny model in eval mode; `open_gate` lets the fusion matter, as it does after training."""
    torch.manual_seed(seed)
    model = LiverLandmarkForSemanticSegmentation(tiny_config(**fields)).eval()
    for name, parameter in model.named_parameters():
        if open_gate and (name == "fusion.gate" or name.startswith("fusion.level_gates.")):
            torch.nn.init.normal_(parameter)
    return model
