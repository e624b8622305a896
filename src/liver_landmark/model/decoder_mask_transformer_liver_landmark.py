"""The decoder `mask_transformer`: a query for each class looks over the frame and draws its class's mask.

After Mask2Former (arXiv 2112.01527), small: the classes are few and known, so each has one query of its own
and nothing needs to be matched.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_liver_landmark import LiverLandmarkConfig
from .decoders_liver_landmark import (
    Decoder,
    DecoderOutput,
    FeedForward,
    OneRowPerClass,
    TokenAttention,
    UNetDecoder,
    position_encoding,
)

# The coarsest stages are what queries look at, in turn: 16 px and 8 px a token.
_MEMORY_STAGES = 2


class ClassQueries(OneRowPerClass, nn.Embedding):
    """What each class asks with."""


class MaskedAttentionLayer(GradientCheckpointingLayer):
    """Cross-attention of the queries within their masks, self-attention, feed-forward."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.cross_norm = nn.LayerNorm(channels)
        self.cross_attention = TokenAttention(channels, num_heads)
        self.self_norm = nn.LayerNorm(channels)
        self.self_attention = TokenAttention(channels, num_heads)
        self.forward_norm = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, queries: Tensor, memory: Tensor, blocked: Tensor) -> Tensor:
        """queries (B, K, C), memory (B, M, C), blocked (B, K, M) -> (B, K, C)."""
        queries = queries + self.cross_attention(self.cross_norm(queries), memory, blocked)
        normed = self.self_norm(queries)
        queries = queries + self.self_attention(normed, normed)
        return queries + self.feed_forward(self.forward_norm(queries))


class MaskTransformerDecoder(Decoder):
    """The stages of `unet` as pixel features; logits are their products with the classes' queries."""

    def __init__(self, config: LiverLandmarkConfig, channels: Mapping[int, int]) -> None:
        super().__init__()
        width = config.decoder_hidden_size
        # Its classifier gives the masks that the first layer looks within.
        self.pixels = UNetDecoder(config, channels)
        self.out_channels = self.pixels.out_channels
        memory = config.decoder_channels[: min(_MEMORY_STAGES, config.decoder_num_layers)]
        self.memory = nn.ModuleList(nn.Conv2d(stage, width, 1) for stage in memory)
        self.queries = ClassQueries(config.num_labels, width)
        self.layers = nn.ModuleList(
            MaskedAttentionLayer(width, config.decoder_num_heads) for _ in range(config.decoder_num_layers)
        )
        self.mask_norm = nn.LayerNorm(width)
        self.mask_head = FeedForward(width, self.out_channels)

    def refine(self, fused: Tensor, pyramid: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        return self.pixels.refine(fused, pyramid)

    def predict(self, stages: tuple[Tensor, ...]) -> DecoderOutput:
        first = self.pixels.predict(stages)
        memories = []
        for project, stage in zip(self.memory, stages, strict=False):
            projected = project(stage)
            places = position_encoding(*projected.shape[-2:], projected.shape[1], projected)
            memories.append((projected.flatten(2).transpose(1, 2) + places, projected.shape[-2:]))
        queries = self.queries.weight.expand(stages[-1].shape[0], -1, -1)
        logits, earlier = first.logits, list(first.auxiliary_logits)
        for index, layer in enumerate(self.layers):
            memory, size = memories[index % len(memories)]
            earlier.append(logits)
            queries = layer(queries, memory, blocked_places(logits, size))
            logits = first.logits + self._masks(queries, stages[-1])
        return DecoderOutput(logits, tuple(earlier) if self.training else ())

    def _masks(self, queries: Tensor, features: Tensor) -> Tensor:
        """(B, K, C) queries and (B, c, h, w) features -> (B, K, h, w)."""
        weights = self.mask_head(self.mask_norm(queries))
        return torch.einsum("bkc,bchw->bkhw", weights, features) / features.shape[1] ** 0.5


def blocked_places(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, h, w) logits -> (B, K, H · W) bool: where a class's query is not to look.

    That is where the class is not among those that may be there, with a probability of a tenth; a class that
    is nowhere may look everywhere.
    """
    shrunk = F.adaptive_max_pool2d(logits.detach().softmax(dim=1), size)
    blocked = (shrunk < 0.1).flatten(2)
    return blocked & ~blocked.all(dim=-1, keepdim=True)


__all__ = ["MaskTransformerDecoder", "blocked_places"]
