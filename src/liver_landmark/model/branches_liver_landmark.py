"""The two branches that read a frame: appearance (vision) and geometry (depth)."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoBackbone, AutoModel

from .configuration_liver_landmark import LiverLandmarkConfig
from .decoders_liver_landmark import build_norm

# Strides of the maps that everything behind the vision branch is built on.
PYRAMID_STRIDES = (4, 8, 16)


class _NoPositionEncoding(nn.Module):
    """Stands in for the sine encodings of the FPN, which only SAM 2's mask decoder reads.

    Computing them costs some 20 million sines a frame of 1024×1024, for nothing here.
    """

    def forward(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.empty(0, device=device, dtype=dtype)


class VisionBranch(nn.Module):
    """SAM 2's image encoder (Hiera + FPN) as a source of three maps of equal width.

    Other vision encoders fit in here: all that is asked of one is its features at `PYRAMID_STRIDES`
    and the multiples that a frame's sides must have.
    """

    def __init__(self, config: LiverLandmarkConfig) -> None:
        super().__init__()
        self.encoder = AutoModel.from_config(config.vision_config)
        self.encoder.neck.position_encoding = _NoPositionEncoding()
        hiera = config.vision_config.backbone_config
        patch_stride = hiera.patch_stride[0]
        # Four stages halve the map three times, and the window's position embedding is tiled whole.
        self.size_multiple = math.lcm(
            patch_stride * hiera.query_stride[0] ** hiera.num_query_pool_stages,
            patch_stride * hiera.window_size_per_stage[0],
        )

    def check_size(self, height: int, width: int) -> None:
        """Raises a ValueError that names the nearest size that works unless this one does."""
        multiple = self.size_multiple
        nearest = [max(multiple, (side + multiple // 2) // multiple * multiple) for side in (height, width)]
        if nearest != [height, width]:
            raise ValueError(
                f"frames of {height}x{width} px (height x width) do not fit the vision encoder, whose sides "
                f"are multiples of {multiple}: resize to {nearest[0]}x{nearest[1]}"
            )

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> maps (B, C, H/4, W/4), (B, C, H/8, W/8), (B, C, H/16, W/16)."""
        fine, middle, coarse = self.encoder(pixel_values).fpn_hidden_states
        return fine, middle, coarse


class DepthBranch(nn.Module):
    """The encoder of Depth Anything V2 and the projection of its taps to the fusion's width."""

    def __init__(self, config: LiverLandmarkConfig) -> None:
        super().__init__()
        self.encoder = AutoBackbone.from_config(config.depth_config)
        self.scale = config.depth_image_size / config.image_size
        patch_size = config.depth_config.patch_size
        self.patch_size = patch_size if isinstance(patch_size, int) else patch_size[0]
        self.num_taps = 1 if config.depth_taps == "last" else len(self.encoder.out_indices)
        channels = config.fusion_channels
        self.projection = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(config.depth_config.hidden_size * self.num_taps, channels, 1, bias=False),
                norm=build_norm(config.norm_type, channels),
                act=nn.ReLU(),
            )
        )

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in px, whole patches, to which a frame of that size is resized."""

        def side(pixels: int) -> int:
            return max(1, round(pixels * self.scale / self.patch_size)) * self.patch_size

        return side(height), side(width)

    def forward(self, pixel_values: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, 3, H, W) -> (B, C, *size)."""
        # In float32 whatever the weights are: the antialiased resize has no half-precision CPU kernel.
        frame = F.interpolate(
            pixel_values.float(),
            size=self.input_size(*pixel_values.shape[-2:]),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        taps = self.encoder(frame.to(pixel_values.dtype)).feature_maps[-self.num_taps :]
        features = self.projection(torch.cat(taps, dim=1))
        return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


__all__ = ["PYRAMID_STRIDES", "DepthBranch", "VisionBranch"]
