"""The two branches that read a frame: appearance (vision) and geometry (depth).

A vision branch is an encoder and what makes its features a pyramid: maps by stride, 4, 8 and 16 at least.
`VISION_BRANCHES` chooses by the `model_type` of the configuration; every backbone of transformers that is not
in it is a `BackboneBranch` or, without a hierarchy, a `PlainBackboneBranch`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoBackbone, AutoModel, PreTrainedConfig

from .configuration_liver_landmark import EfficientNetLiteConfig, LiverLandmarkConfig, is_hierarchical
from .decoders_liver_landmark import ConvNormAct, build_norm
from .efficientnet_liver_landmark import EfficientNetLiteModel

# Strides that the fusion and every decoder rely on.
PYRAMID_STRIDES = (4, 8, 16)
_PROBE_SIDE_PX = 224

Pyramid = dict[int, Tensor]


class VisionBranch(nn.Module):
    """An encoder as a source of maps by stride.

    Attributes:
        encoder: The encoder; the weights of its checkpoint fit.
        channels: Stride -> channels of the map, finest first.
        size_multiple: The sides of a frame are multiples of this many px.
        only_size: (height, width) of the only frames that it takes; None: it takes others.
    """

    encoder: nn.Module
    channels: dict[int, int]
    size_multiple: int
    only_size: tuple[int, int] | None = None

    def __init__(self, config: LiverLandmarkConfig) -> None:
        super().__init__()
        self.build_encoder(config)
        self.detail = None
        if config.detail_channels:
            self.detail = DetailStream(config.detail_channels, config.norm_type)
            self.channels = {2: config.detail_channels} | self.channels

    def build_encoder(self, config: LiverLandmarkConfig) -> None:
        """Sets `encoder`, `channels`, `size_multiple`, and what the maps need besides."""
        raise NotImplementedError

    def encode(self, pixel_values: Tensor) -> Pyramid:
        """(B, 3, H, W) -> stride -> (B, C, H / stride, W / stride), finest first."""
        raise NotImplementedError

    def check_size(self, height: int, width: int) -> None:
        """Raises a ValueError that names the nearest size that works unless this one does."""
        if self.only_size is not None:
            if (height, width) != self.only_size:
                only = f"{self.only_size[0]}x{self.only_size[1]}"
                raise ValueError(
                    f"frames of {height}x{width} px (height x width) do not fit the vision encoder, whose "
                    f"position embeddings are for {only} alone: resize to {only}"
                )
            return
        multiple = self.size_multiple
        nearest = [max(multiple, (side + multiple // 2) // multiple * multiple) for side in (height, width)]
        if nearest != [height, width]:
            raise ValueError(
                f"frames of {height}x{width} px (height x width) do not fit the vision encoder, whose sides "
                f"are multiples of {multiple}: resize to {nearest[0]}x{nearest[1]}"
            )

    def forward(self, pixel_values: Tensor) -> Pyramid:
        """(B, 3, H, W) -> stride -> (B, C, H / stride, W / stride), finest first."""
        pyramid = self.encode(pixel_values)
        if self.detail is not None:
            pyramid = {2: self.detail(pixel_values)} | pyramid
        return pyramid


class DetailStream(nn.Sequential):
    """Two convolutions on the frame itself: details at stride 2 for encoders that begin at stride 4 or later.

    As ViTMatte (arXiv 2305.15272) and ViT-Adapter (arXiv 2205.08534) add them to plain transformers.
    """

    def __init__(self, channels: int, norm_type: str) -> None:
        super().__init__(
            OrderedDict(
                stem=nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False),
                norm=build_norm(norm_type, channels),
                act=nn.ReLU(),
                conv=ConvNormAct(channels, channels, 3, norm_type),
            )
        )


class _NoPositionEncoding(nn.Module):
    """Stands in for the sine encodings of the FPN, which only SAM 2's mask decoder reads.

    Computing them costs some 20 million sines a frame of 1024×1024, for nothing here.
    """

    def forward(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.empty(0, device=device, dtype=dtype)


class Sam2Branch(VisionBranch):
    """SAM 2's image encoder, Hiera and FPN: three maps of one width."""

    def build_encoder(self, config: LiverLandmarkConfig) -> None:
        self.encoder = AutoModel.from_config(config.vision_config)
        self.encoder.neck.position_encoding = _NoPositionEncoding()
        self.channels = dict.fromkeys(PYRAMID_STRIDES, config.fusion_channels)
        hiera = config.vision_config.backbone_config
        patch_stride = hiera.patch_stride[0]
        # Four stages halve the map three times, and the window's position embedding is tiled whole.
        self.size_multiple = math.lcm(
            patch_stride * hiera.query_stride[0] ** hiera.num_query_pool_stages,
            patch_stride * hiera.window_size_per_stage[0],
        )

    def encode(self, pixel_values: Tensor) -> Pyramid:
        return dict(zip(PYRAMID_STRIDES, self.encoder(pixel_values).fpn_hidden_states, strict=True))


class EfficientNetLiteBranch(VisionBranch):
    """EfficientNet-Lite: maps at strides 2 to 32, each of its own width."""

    def build_encoder(self, config: LiverLandmarkConfig) -> None:
        self.encoder = EfficientNetLiteModel(config.vision_config)
        self.channels = config.vision_config.level_channels
        self.size_multiple = max(self.channels)

    def encode(self, pixel_values: Tensor) -> Pyramid:
        return dict(zip(self.channels, self.encoder(pixel_values).feature_maps, strict=True))


class SimplePyramid(nn.Module):
    """Three maps of one width out of the last map of a plain transformer, at stride 16.

    Transposed convolutions make strides 8 and 4 of it (ViTDet, arXiv 2203.16527).
    """

    def __init__(self, in_channels: int, channels: int, norm_type: str) -> None:
        super().__init__()

        def doubled(width: int) -> list[nn.Module]:
            return [nn.ConvTranspose2d(width, channels, 2, stride=2), build_norm(norm_type, channels)]

        self.levels = nn.ModuleList(
            [
                nn.Sequential(*doubled(in_channels), nn.GELU(), *doubled(channels)),
                nn.Sequential(*doubled(in_channels)),
                nn.Sequential(nn.Conv2d(in_channels, channels, 1), build_norm(norm_type, channels)),
            ]
        )

    def forward(self, features: Tensor) -> Pyramid:
        """(B, C, h, w) at stride 16 -> maps at strides 4, 8, 16."""
        return {stride: level(features) for stride, level in zip(PYRAMID_STRIDES, self.levels, strict=True)}


class SamBranch(VisionBranch):
    """SAM's image encoder, of the papers' baselines: one map at stride 16 from frames of one size."""

    def build_encoder(self, config: LiverLandmarkConfig) -> None:
        vision = config.vision_config
        self.encoder = AutoModel.from_config(vision)
        self.pyramid = SimplePyramid(vision.output_channels, config.backbone_channels, config.norm_type)
        self.channels = dict.fromkeys(PYRAMID_STRIDES, config.backbone_channels)
        self.size_multiple = vision.image_size
        # Its position embeddings are for one grid.
        self.only_size = (vision.image_size, vision.image_size)

    def encode(self, pixel_values: Tensor) -> Pyramid:
        return self.pyramid(self.encoder(pixel_values).last_hidden_state)


class BackboneBranch(VisionBranch):
    """A hierarchical backbone of transformers, its maps projected to one width."""

    def build_encoder(self, config: LiverLandmarkConfig) -> None:
        self.encoder = AutoBackbone.from_config(config.vision_config)
        facts = probe_backbone(config.vision_config)
        self.strides, self.only_size = facts.strides, facts.only_size
        for name, parameter in self.encoder.named_parameters():
            # They could never get a gradient, which data-parallel training waits for.
            parameter.requires_grad_(name not in facts.unused)
        missing = sorted(set(PYRAMID_STRIDES) - set(self.strides))
        if missing:
            raise ValueError(
                f"vision_config: {config.vision_config.model_type} gives features at strides "
                f"{', '.join(map(str, self.strides))}, but not at {missing[0]}: set its out_features"
            )
        channels = dict(zip(self.strides, self.encoder.channels, strict=True))
        # Each stride once, the last map at it; none finer than what a decoder takes.
        self.channels = dict.fromkeys(sorted(stride for stride in channels if stride >= 4), 0)
        self.projections = nn.ModuleDict()
        for stride in self.channels:
            self.channels[stride] = config.backbone_channels
            self.projections[str(stride)] = nn.Sequential(
                nn.Conv2d(channels[stride], config.backbone_channels, 1, bias=False),
                build_norm(config.norm_type, config.backbone_channels),
            )
        self.size_multiple = max(32, *self.strides)

    def encode(self, pixel_values: Tensor) -> Pyramid:
        maps = dict(zip(self.strides, self.encoder(pixel_values).feature_maps, strict=True))
        return {int(stride): project(maps[int(stride)]) for stride, project in self.projections.items()}


class PlainBackboneBranch(VisionBranch):
    """A plain transformer of transformers' backbones, such as DINOv2: one map, made to lie at stride 16.

    The frame is resized inside so that a patch of the transformer is 16 px of the frame.
    """

    def build_encoder(self, config: LiverLandmarkConfig) -> None:
        vision = config.vision_config
        self.encoder = AutoBackbone.from_config(vision)
        self.patch_size = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
        self.pyramid = SimplePyramid(self.encoder.channels[-1], config.backbone_channels, config.norm_type)
        self.channels = dict.fromkeys(PYRAMID_STRIDES, config.backbone_channels)
        self.size_multiple = 16

    def encode(self, pixel_values: Tensor) -> Pyramid:
        height, width = (side // 16 * self.patch_size for side in pixel_values.shape[-2:])
        frame = resize_frame(pixel_values, (height, width))
        return self.pyramid(self.encoder(frame).feature_maps[-1])


def resize_frame(pixel_values: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) -> (B, 3, *size), antialiased."""
    if tuple(pixel_values.shape[-2:]) == size:
        return pixel_values
    # In float32 whatever the weights are: the antialiased resize has no half-precision CPU kernel.
    frame = F.interpolate(
        pixel_values.float(), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    return frame.to(pixel_values.dtype)


@dataclass(frozen=True)
class BackboneFacts:
    """What a backbone's configuration does not say.

    Attributes:
        strides: Of its maps.
        only_size: (height, width) of the only frames that it takes; None: it takes others.
        unused: Names of parameters that none of the maps depends on.
    """

    strides: list[int]
    only_size: tuple[int, int] | None
    unused: frozenset[str]


def probe_backbone(config: PreTrainedConfig) -> BackboneFacts:
    """The facts of a backbone, measured on a copy without memory."""
    size = getattr(config, "image_size", None) or _PROBE_SIDE_PX
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    only_size = None
    with torch.device("meta"), torch.enable_grad():
        backbone = AutoBackbone.from_config(config).eval()
        maps = backbone(torch.empty(1, 3, height, width)).feature_maps
        sum(features.sum() for features in maps).backward()
        try:
            backbone(torch.empty(1, 3, 2 * height, 2 * width))
        except (RuntimeError, ValueError):
            only_size = (height, width)
    unused = frozenset(name for name, parameter in backbone.named_parameters() if parameter.grad is None)
    return BackboneFacts([round(width / features.shape[-1]) for features in maps], only_size, unused)


VISION_BRANCHES: dict[str, type[VisionBranch]] = {
    "sam2_vision_model": Sam2Branch,
    "sam_vision_model": SamBranch,
    EfficientNetLiteConfig.model_type: EfficientNetLiteBranch,
}


def build_vision_branch(config: LiverLandmarkConfig) -> VisionBranch:
    """The branch for `config.vision_config`.

    Raises:
        ValueError: an encoder that is neither in `VISION_BRANCHES` nor a backbone of transformers.
    """
    branch = VISION_BRANCHES.get(config.vision_config.model_type)
    if branch is None:
        if getattr(config.vision_config, "stage_names", None) is None:
            raise ValueError(
                f"vision_config.model_type {config.vision_config.model_type!r} is not a supported vision "
                f"encoder: choose {', '.join(VISION_BRANCHES)}, or a backbone of transformers such as hiera, "
                "swin or dinov2"
            )
        branch = BackboneBranch if is_hierarchical(config.vision_config) else PlainBackboneBranch
    return branch(config)


class DepthBranch(nn.Module):
    """An encoder that was trained on depth, and the projection of its features to the fusion's width.

    Depth Anything V2's is a plain transformer, whose taps all lie at one stride; a small `efficientnet_lite`
    gives a pyramid. `strides` are where the branch gives a map: where the fusion asks for one.

    Args:
        config: The model's configuration.
        channels: Stride -> width that the map there is projected to.
    """

    def __init__(self, config: LiverLandmarkConfig, channels: Mapping[int, int]) -> None:
        super().__init__()
        self.scale = config.depth_image_size / config.image_size
        self.is_pyramid = config.depth_config.model_type == EfficientNetLiteConfig.model_type
        if self.is_pyramid:
            self.encoder = EfficientNetLiteModel(config.depth_config)
            self.unit = 32
            levels = config.depth_config.level_channels
        else:
            self.encoder = AutoBackbone.from_config(config.depth_config)
            patch_size = config.depth_config.patch_size
            self.unit = patch_size if isinstance(patch_size, int) else patch_size[0]
            self.num_taps = 1 if config.depth_taps == "last" else len(self.encoder.out_indices)
            levels = dict.fromkeys(channels, config.depth_config.hidden_size * self.num_taps)
        self.strides = [stride for stride in channels if stride in levels]
        projections = {
            stride: nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(levels[stride], channels[stride], 1, bias=False),
                    norm=build_norm(config.norm_type, channels[stride]),
                    act=nn.ReLU(),
                )
            )
            for stride in self.strides
        }
        self.projection = projections.pop(16)
        self.finer_projections = nn.ModuleDict({str(stride): part for stride, part in projections.items()})

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in px, whole patches, to which a frame of that size is resized."""

        def side(pixels: int) -> int:
            return max(1, round(pixels * self.scale / self.unit)) * self.unit

        return side(height), side(width)

    def forward(self, pixel_values: Tensor, sizes: Mapping[int, tuple[int, int]]) -> Pyramid:
        """(B, 3, H, W) and stride -> (h, w) -> stride -> (B, C, h, w) for the strides of the branch."""
        frame = resize_frame(pixel_values, self.input_size(*pixel_values.shape[-2:]))
        maps = self.encoder(frame).feature_maps
        if self.is_pyramid:
            levels = dict(zip(self.encoder.config.level_channels, maps, strict=True))
        else:
            levels = dict.fromkeys(self.strides, torch.cat(maps[-self.num_taps :], dim=1))
        result = {}
        for stride in self.strides:
            project = self.projection if stride == 16 else self.finer_projections[str(stride)]
            result[stride] = F.interpolate(
                project(levels[stride]), size=sizes[stride], mode="bilinear", align_corners=False
            )
        return result


__all__ = [
    "PYRAMID_STRIDES",
    "VISION_BRANCHES",
    "DepthBranch",
    "VisionBranch",
    "build_vision_branch",
]
