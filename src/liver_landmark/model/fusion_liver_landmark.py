"""Cross-attention between the two branches' features at stride 16."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_liver_landmark import LiverLandmarkConfig


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, Tensor]:
    """Attention that materialises its (B, heads, queries, keys) weights and returns them."""
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    dropped = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(dropped, value).transpose(1, 2).contiguous(), weights


class CrossAttention(nn.Module):
    """Multi-head attention whose queries come from one branch, keys and values from the other."""

    def __init__(self, config: LiverLandmarkConfig) -> None:
        super().__init__()
        channels = config.fusion_channels
        self.config = config
        self.num_heads = config.fusion_num_heads
        self.head_dim = channels // config.fusion_num_heads
        self.scaling = self.head_dim**-0.5
        self.dropout = config.fusion_dropout
        self.is_causal = False
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.o_proj = nn.Linear(channels, channels)

    def forward(
        self, query: Tensor, context: Tensor, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """query (B, N, C), context (B, M, C) -> (B, N, C) and, if asked for, weights (B, heads, N, M)."""

        def heads(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

        attention: Callable = eager_attention_forward
        # The weights exist under the eager implementation only; asking for them is what chooses it.
        if not output_attentions:
            attention = ALL_ATTENTION_FUNCTIONS.get_interface(
                self.config._attn_implementation, eager_attention_forward
            )
        output, weights = attention(
            self,
            heads(self.q_proj(query)),
            heads(self.k_proj(context)),
            heads(self.v_proj(context)),
            attention_mask=None,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            is_causal=False,
        )
        return self.o_proj(output.flatten(-2)), weights if output_attentions else None


class FusionLayer(GradientCheckpointingLayer):
    """One cross-attention; layers after the first add to what the one before gave."""

    def __init__(self, config: LiverLandmarkConfig, is_first: bool) -> None:
        super().__init__()
        channels = config.fusion_channels
        self.is_first = is_first
        self.query_norm = nn.LayerNorm(channels) if config.fusion_pre_norm else nn.Identity()
        self.context_norm = nn.LayerNorm(channels) if config.fusion_pre_norm else nn.Identity()
        self.attention = CrossAttention(config)

    def forward(
        self, query: Tensor, context: Tensor, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.attention(
            self.query_norm(query), self.context_norm(context), output_attentions
        )
        return attended if self.is_first else query + attended, weights


class CrossAttentionFusion(nn.Module):
    """Fuses the RGB and depth maps of stride 16 into one map of the same size.

    Queries from `fusion_query`, keys and values from the other branch (arXiv 2511.03163: depth asks).
    """

    def __init__(self, config: LiverLandmarkConfig) -> None:
        super().__init__()
        self.query_is_depth = config.fusion_query == "depth"
        self.layers = nn.ModuleList(
            FusionLayer(config, is_first=index == 0) for index in range(config.fusion_num_layers)
        )
        # A gate of zero makes the fused model start as the RGB-only one.
        self.gate = (
            nn.Parameter(torch.zeros(config.fusion_channels)) if config.fusion_residual == "rgb" else None
        )

    def forward(
        self, rgb: Tensor, depth: Tensor, output_attentions: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """rgb and depth (B, C, h, w) -> fused (B, C, h, w), weights per layer (B, heads, hw, hw)."""
        rgb_tokens = rgb.flatten(2).transpose(1, 2)
        depth_tokens = depth.flatten(2).transpose(1, 2)
        query, context = (depth_tokens, rgb_tokens) if self.query_is_depth else (rgb_tokens, depth_tokens)
        attentions: tuple[Tensor, ...] = ()
        for layer in self.layers:
            query, weights = layer(query, context, output_attentions)
            if weights is not None:
                attentions += (weights,)
        fused = query.transpose(1, 2).unflatten(2, rgb.shape[-2:])
        if self.gate is not None:
            fused = rgb + self.gate[:, None, None] * fused
        return fused, attentions if output_attentions else None


__all__ = ["CrossAttention", "CrossAttentionFusion", "FusionLayer"]
