"""CNN decoders: from the fused map and the pyramid's skips to logits at stride 4.

A decoder is a module built from a config whose `forward(fused, skips)` returns logits and the outputs of its
stages. `decoder_type` chooses from the registry in modeling_liver_landmark.py; a large decoder has a file of
its own, which may use the blocks of this one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_liver_landmark import LiverLandmarkConfig


def build_norm(norm_type: str, channels: int) -> nn.Module:
    """Normalization of a map: BatchNorm, or GroupNorm with up to 32 groups of at least 4 channels."""
    if norm_type == "batch":
        return nn.BatchNorm2d(channels)
    groups = next((g for g in (32, 16, 8, 4, 2) if channels % g == 0 and channels // g >= 4), 1)
    return nn.GroupNorm(groups, channels)


class ConvNormAct(nn.Sequential):
    """Convolution, normalization, ReLU; the size of the map is kept."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], norm_type: str
    ) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(in_channels, out_channels, kernel_size, padding="same", bias=False),
                norm=build_norm(norm_type, out_channels),
                act=nn.ReLU(),
            )
        )


class FactorizedResidualBlock(nn.Module):
    """x + two pairs of 3×1 and 1×3 convolutions (arXiv 2511.03163; two thirds of a 3×3 pair's work)."""

    def __init__(self, channels: int, norm_type: str) -> None:
        super().__init__()

        def pair() -> list[nn.Module]:
            return [
                nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)),
                nn.ReLU(),
                nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), bias=False),
                build_norm(norm_type, channels),
            ]

        self.body = nn.Sequential(*pair(), nn.ReLU(), *pair())

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(features + self.body(features))


class NormalizedSkip(nn.Sequential):
    """1×1 convolution and normalization of a pyramid map.

    The maps of an FPN differ in scale by their level, and new ones by a factor of ten from what they are
    added to: unnormalized, the fine levels are heard late in training.
    """

    def __init__(self, in_channels: int, out_channels: int, norm_type: str) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(in_channels, out_channels, 1, bias=False),
                norm=build_norm(norm_type, out_channels),
            )
        )


class Classifier(nn.Conv2d):
    """3×3 convolution to one logit a class; it starts close to zero, so that all classes start alike."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, 3, padding=1)


class ProgressiveStage(nn.Module):
    """Convolution, then the pyramid's skip of the same stride, then a residual block that mixes them."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, norm_type: str) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels, 3, norm_type)
        self.skip = NormalizedSkip(skip_channels, out_channels, norm_type)
        self.residual = FactorizedResidualBlock(out_channels, norm_type)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        if features.shape[-2:] != skip.shape[-2:]:
            features = F.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.residual(self.conv(features) + self.skip(skip))


class ProgressiveDecoder(nn.Module):
    """Refines at strides 16, 8 and 4, each with the skip of its stride; narrowing channels."""

    def __init__(self, config: LiverLandmarkConfig) -> None:
        super().__init__()
        pyramid = config.fusion_channels
        widths = config.decoder_channels
        self.stages = nn.ModuleList(
            ProgressiveStage(in_channels, pyramid, out_channels, config.norm_type)
            for in_channels, out_channels in zip([pyramid, *widths[:-1]], widths, strict=True)
        )
        self.classifier = Classifier(widths[-1], config.num_labels)

    def forward(self, fused: Tensor, skips: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """fused (B, C, H/16, W/16), skips at strides 4, 8, 16 -> logits (B, K, H/4, W/4), stage outputs."""
        features, outputs = fused, ()
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            features = stage(features, skip)
            outputs += (features,)
        return self.classifier(features), outputs


def _plain_skip(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)


class ReleasedStage(nn.Module):
    """Convolution, residual block, then the added skip: the order of the authors' code."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, norm_type: str) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels, 3, norm_type)
        self.residual = FactorizedResidualBlock(out_channels, norm_type)
        self.skip = _plain_skip(skip_channels, out_channels)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        return self.residual(self.conv(features)) + self.skip(skip)


class ReleasedDecoder(nn.Module):
    """As the authors' code runs: all stages at stride 16, the skips shrunk to it, finest first.

    For comparison: no detail finer than 16 px is decoded; one bilinear ×4 ends it.
    """

    def __init__(self, config: LiverLandmarkConfig) -> None:
        super().__init__()
        pyramid = config.fusion_channels
        widths = config.decoder_channels
        self.stages = nn.ModuleList(
            ReleasedStage(in_channels, pyramid, out_channels, config.norm_type)
            for in_channels, out_channels in zip([pyramid, *widths[:-1]], widths, strict=True)
        )
        self.classifier = Classifier(widths[-1], config.num_labels)

    def forward(self, fused: Tensor, skips: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """fused (B, C, H/16, W/16), skips at strides 4, 8, 16 -> logits (B, K, H/4, W/4), stage outputs."""
        features, outputs = fused, ()
        for stage, skip in zip(self.stages, skips, strict=True):
            shrunk = F.interpolate(skip, size=fused.shape[-2:], mode="bilinear", align_corners=False)
            features = stage(features, shrunk)
            outputs += (features,)
        logits = self.classifier(features)
        return F.interpolate(logits, size=skips[0].shape[-2:], mode="bilinear", align_corners=False), outputs


__all__ = ["Classifier", "ConvNormAct", "ProgressiveDecoder", "ReleasedDecoder", "build_norm"]
