"""Decoders: from the fused map and the pyramid's maps to logits, and the blocks that they are made of.

A `Decoder` is built from a config and the pyramid's widths; `refine` makes features ever finer, `predict`
makes logits of them. `decoder_type` chooses from the registry in modeling_liver_landmark.py; a large decoder
has a file of its own, which may use the blocks of this one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_liver_landmark import STAGE_STRIDES, LiverLandmarkConfig


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


class OneRowPerClass:
    """Marks modules whose parameters have one row per class, so that a change of classes can keep rows."""


class Classifier(OneRowPerClass, nn.Conv2d):
    """3×3 convolution to one logit a class; it starts close to zero, so that all classes start alike."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, 3, padding=1)


class Curves(NamedTuple):
    """Curves that a decoder has found, one a query.

    Attributes:
        points: (B, Q, N, 2) x, y in order along the curve, as shares of the frame's width and height.
        class_logits: (B, Q, num_labels): 0 is no curve, the others are landmarks.
    """

    points: Tensor
    class_logits: Tensor


class DecoderOutput(NamedTuple):
    """What a decoder gives.

    Attributes:
        logits: (B, num_labels, h, w).
        auxiliary_logits: Of earlier stages or layers, (B, num_labels, h', w') each, in training only: for
            deep supervision.
        curves: What the logits were drawn from, and before it what each earlier layer found; empty for
            decoders that classify pixels.
    """

    logits: Tensor
    auxiliary_logits: tuple[Tensor, ...] = ()
    curves: tuple[Curves, ...] = ()


class Decoder(nn.Module):
    """What `decoder_type` chooses.

    Args:
        config: The model's configuration.
        channels: Stride -> channels of the pyramid's map.

    Attributes:
        out_channels: Of the finest features.
        learns_curves: It gives curves, and learns them from the landmarks of each frame.
    """

    out_channels: int
    learns_curves: bool = False

    def refine(self, fused: Tensor, pyramid: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        """fused (B, C, H/16, W/16) and maps by stride -> features of each stage, the finest last."""
        raise NotImplementedError

    def predict(self, stages: tuple[Tensor, ...]) -> DecoderOutput:
        """Features of the stages -> logits, at the size of the finest."""
        raise NotImplementedError


def start_channels(channels: Mapping[int, int]) -> int:
    """Channels of the map that `start_and_skips` starts from."""
    return channels[max(channels)]


def start_and_skips(fused: Tensor, pyramid: Mapping[int, Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
    """The map that refinement starts from, and what is added at each stride.

    Above stride 16 the pyramid's coarsest map comes first, and the fused one is added at its stride;
    otherwise refinement starts from the fused one, and the vision branch's own is added to it.
    """
    coarsest = max(pyramid)
    if coarsest > 16:
        return pyramid[coarsest], dict(pyramid) | {16: fused}
    return fused, dict(pyramid)


def resized(features: Tensor, like: Tensor) -> Tensor:
    """A map at the size of another, bilinear."""
    if features.shape[-2:] == like.shape[-2:]:
        return features
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)


class TokenAttention(nn.Module):
    """Multi-head attention of tokens to tokens, of the transformer decoders."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.o_proj = nn.Linear(channels, channels)

    def forward(self, query: Tensor, context: Tensor, blocked: Tensor | None = None) -> Tensor:
        """query (B, N, C), context (B, M, C), blocked (B, N, M) bool: True is not looked at -> (B, N, C)."""

        def heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        attended = F.scaled_dot_product_attention(
            heads(self.q_proj(query)),
            heads(self.k_proj(context)),
            heads(self.v_proj(context)),
            attn_mask=None if blocked is None else ~blocked[:, None],
        )
        return self.o_proj(attended.transpose(1, 2).flatten(-2))


class FeedForward(nn.Sequential):
    """Two linear layers, four times as wide in between."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__(
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, out_channels or channels),
        )


def position_encoding(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """(height · width, channels) sines and cosines of the places of a map's pixels, whatever its size."""
    y = (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) / width
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
    return encode_places(places, channels).to(like.dtype)


def encode_places(places: Tensor, channels: int) -> Tensor:
    """(…, 2) shares of width and height -> (…, channels) sines and cosines of them."""
    count = -(-channels // 4)
    # Half a wave over the frame, up to one every four pixels of a map of 128.
    frequencies = torch.pi * 2 ** torch.linspace(0, 6, count, device=places.device)
    angles = places[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :channels]


class ContextLayer(GradientCheckpointingLayer):
    """Self-attention of a map's places, then feed-forward."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = TokenAttention(channels, num_heads)
        self.forward_norm = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed, normed)
        return tokens + self.feed_forward(self.forward_norm(tokens))


class Context(nn.Module):
    """The map that refinement starts from, seen as a whole: at stride 32, a 352 × 192 frame has 66 places."""

    def __init__(self, config: LiverLandmarkConfig, in_channels: int) -> None:
        super().__init__()
        width = config.decoder_hidden_size
        self.narrow = nn.Conv2d(in_channels, width, 1)
        self.layers = nn.ModuleList(
            ContextLayer(width, config.decoder_num_heads) for _ in range(config.context_num_layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, decoder_hidden_size, h, w)."""
        features = self.narrow(features)
        height, width = features.shape[-2:]
        tokens = features.flatten(2).transpose(1, 2)
        tokens = tokens + position_encoding(height, width, features.shape[1], features)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.transpose(1, 2).unflatten(2, (height, width))


class ConvDecoder(Decoder):
    """Stages from coarse to fine, each with the pyramid's map of its stride, then a classifier.

    Subclasses say what a stage is: a module of (features, skip), built with the channels of both and its own.
    """

    stage_class: type[nn.Module]

    def __init__(self, config: LiverLandmarkConfig, channels: Mapping[int, int]) -> None:
        super().__init__()
        widths = list(config.decoder_channels)
        self.strides = STAGE_STRIDES[: len(widths)]
        self.out_channels = widths[-1]
        first = start_channels(channels)
        self.context = Context(config, first) if config.context_num_layers else None
        if self.context is not None:
            first = config.decoder_hidden_size
        self.stages = nn.ModuleList(
            self.stage_class(in_channels, channels[stride], width, config.norm_type)
            for in_channels, stride, width in zip([first, *widths[:-1]], self.strides, widths, strict=True)
        )
        self.classifier = Classifier(self.out_channels, config.num_labels)
        # The last stage's classifier is the decoder's own.
        supervised = widths[:-1] if config.deep_supervision_weight else []
        self.auxiliary_classifiers = nn.ModuleList(
            Classifier(width, config.num_labels) for width in supervised
        )

    def refine(self, fused: Tensor, pyramid: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        features, skips = start_and_skips(fused, pyramid)
        if self.context is not None:
            features = self.context(features)
        outputs: tuple[Tensor, ...] = ()
        for stride, stage in zip(self.strides, self.stages, strict=True):
            features = stage(features, skips[stride])
            outputs += (features,)
        return outputs

    def predict(self, stages: tuple[Tensor, ...]) -> DecoderOutput:
        auxiliary: tuple[Tensor, ...] = ()
        if self.training and len(self.auxiliary_classifiers):
            earlier = zip(self.auxiliary_classifiers, stages[:-1], strict=True)
            auxiliary = tuple(classifier(features) for classifier, features in earlier)
        return DecoderOutput(self.classifier(stages[-1]), auxiliary)


class ProgressiveStage(nn.Module):
    """Convolution, then the pyramid's skip of the same stride, then a residual block that mixes them."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, norm_type: str) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels, 3, norm_type)
        self.skip = NormalizedSkip(skip_channels, out_channels, norm_type)
        self.residual = FactorizedResidualBlock(out_channels, norm_type)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        return self.residual(self.conv(resized(features, skip)) + self.skip(skip))


class ProgressiveDecoder(ConvDecoder):
    """Refines at strides 16, 8, 4 and, if it has a fourth stage, 2; narrowing channels."""

    stage_class = ProgressiveStage


class UNetStage(nn.Module):
    """Both maps to the stage's width, the coarse one enlarged and added, then one convolution.

    Narrowed before it is enlarged, a map costs a quarter; added and not stacked, half a convolution.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, norm_type: str) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(in_channels, out_channels, 1)
        self.skip = nn.Conv2d(skip_channels, out_channels, 1)
        self.conv = ConvNormAct(out_channels, out_channels, 3, norm_type)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        return self.conv(F.relu(resized(self.narrow(features), skip) + self.skip(skip)))


class UNetDecoder(ConvDecoder):
    """The progressive decoder with a third of its work a stage: for encoders that are small themselves."""

    stage_class = UNetStage


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


class ReleasedDecoder(Decoder):
    """As the authors' code runs: all stages at stride 16, the skips shrunk to it, finest first.

    For comparison: no detail finer than 16 px is decoded; one bilinear enlargement ends it, to the stride
    that as many progressive stages would reach.
    """

    def __init__(self, config: LiverLandmarkConfig, channels: Mapping[int, int]) -> None:
        super().__init__()
        if max(channels) > 16:
            raise ValueError(
                f"decoder_type released ends at stride 16, and the vision encoder at {max(channels)}: choose "
                "another decoder (or for efficientnet_lite, vision_config.num_levels 4)"
            )
        widths = list(config.decoder_channels)
        self.strides = STAGE_STRIDES[: len(widths)][::-1]
        self.enlarged = 16 // self.strides[0]
        self.out_channels = widths[-1]
        self.stages = nn.ModuleList(
            ReleasedStage(in_channels, channels[stride], width, config.norm_type)
            for in_channels, stride, width in zip(
                [channels[16], *widths[:-1]], self.strides, widths, strict=True
            )
        )
        self.classifier = Classifier(self.out_channels, config.num_labels)

    def refine(self, fused: Tensor, pyramid: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        features, outputs = fused, ()
        for stride, stage in zip(self.strides, self.stages, strict=True):
            features = stage(features, resized(pyramid[stride], fused))
            outputs += (features,)
        return outputs

    def predict(self, stages: tuple[Tensor, ...]) -> DecoderOutput:
        logits = self.classifier(stages[-1])
        size = [side * self.enlarged for side in logits.shape[-2:]]
        return DecoderOutput(F.interpolate(logits, size=size, mode="bilinear", align_corners=False))


__all__ = [
    "Classifier",
    "ConvDecoder",
    "ConvNormAct",
    "Curves",
    "Decoder",
    "DecoderOutput",
    "FeedForward",
    "OneRowPerClass",
    "ProgressiveDecoder",
    "ReleasedDecoder",
    "TokenAttention",
    "UNetDecoder",
    "build_norm",
    "encode_places",
    "position_encoding",
    "resized",
]
