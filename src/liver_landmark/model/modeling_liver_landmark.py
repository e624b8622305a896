"""The liver landmark model: vision branch, depth branch, fusion by cross-attention, decoder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .branches_liver_landmark import DepthBranch, VisionBranch
from .configuration_liver_landmark import LiverLandmarkConfig
from .convert_checkpoints_liver_landmark import load_branches, read_branch_configs
from .decoders_liver_landmark import Classifier, ProgressiveDecoder, ReleasedDecoder
from .losses_liver_landmark import landmark_loss

# Cross-attention between the two branches' features at stride 16.


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
    """Attention that materializes its (B, heads, queries, keys) weights and returns them."""
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
        """query (B, N, C), context (B, M, C) -> (B, N, C) and, if asked for, weights (B, heads, N, M)."""
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
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """rgb and depth (B, C, h, w) -> fused (B, C, h, w), attention per layer (B, heads, hw, hw)."""
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
        return fused, attentions


# The whole model.

# `register_for_auto_class` keeps one name a class; both Auto classes are to give this model.
_AUTO_MAP = {
    "AutoConfig": "configuration_liver_landmark.LiverLandmarkConfig",
    "AutoModel": "modeling_liver_landmark.LiverLandmarkForSemanticSegmentation",
    "AutoModelForSemanticSegmentation": "modeling_liver_landmark.LiverLandmarkForSemanticSegmentation",
}


# What `decoder_type` chooses from.
DECODERS: dict[str, type[nn.Module]] = {"progressive": ProgressiveDecoder, "released": ReleasedDecoder}


def build_decoder(config: LiverLandmarkConfig) -> nn.Module:
    """The decoder that `config.decoder_type` names; a ValueError lists the registry otherwise."""
    if config.decoder_type not in DECODERS:
        raise ValueError(f"decoder_type must be one of {', '.join(DECODERS)}, got {config.decoder_type!r}")
    return DECODERS[config.decoder_type](config)


class LiverLandmarkPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialization."""

    config_class = LiverLandmarkConfig
    base_model_prefix = "liver_landmark"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ("Sam2MultiScaleBlock", "Dinov2Layer", "FusionLayer")
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """New weights of what is ours; the encoders initialize themselves."""
        if isinstance(module, Classifier):
            init.normal_(module.weight, std=0.01)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, CrossAttentionFusion):
            if module.gate is not None:
                init.zeros_(module.gate)
        else:
            super()._init_weights(module)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Saves weights, configuration and this code, so that the folder loads without the package."""
        # A model needs no pipeline, so the import is here; that it is there makes its file travel along.
        from .pipeline_liver_landmark import custom_pipelines

        self.config.auto_map = dict(_AUTO_MAP)
        self.config.custom_pipelines = custom_pipelines()
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            del self.config.custom_pipelines  # see the configuration, which leaves it out too


class LiverLandmarkForSemanticSegmentation(LiverLandmarkPreTrainedModel):
    """One frame in, a class per pixel out: `config.id2label`, 0 being the background.

    The vision branch gives a pyramid at strides 4, 8, 16; the depth branch one map, which the fusion
    joins with the pyramid's coarsest level; the decoder refines the fused map with the pyramid's
    levels. Source: arXiv 2511.03163.

    Attributes:
        galore_target_modules: Regular expressions of the linear layers whose weights the paper adapts, the
            attentions of each branch: Hiera's, and DINOv2's as transformers names its modules now and
            named them before. Low-rank optimizers and the recipes' `trainable` section read them.
    """

    galore_target_modules: ClassVar[dict[str, str]] = {
        "vision": r"vision_branch\.encoder\..*\.attn\.(qkv|proj)",
        "depth": (
            r"depth_branch\.encoder\..*\.attention\."
            r"((attention\.)?((q|k|v|o)_proj|query|key|value)|output\.dense)"
        ),
    }

    def __init__(self, config: LiverLandmarkConfig) -> None:
        super().__init__(config)
        self.vision_branch = VisionBranch(config)
        if config.use_depth:
            self.depth_branch = DepthBranch(config)
            self.fusion = CrossAttentionFusion(config)
        self.decoder = build_decoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.vision_branch.encoder.get_input_embeddings()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SemanticSegmenterOutput | tuple:
        """Computes logits and, with labels, the loss.

        Args:
            pixel_values: (B, 3, H, W), normalized as the image processor does. Any H and W that the
                vision encoder admits (for SAM 2.1: multiples of 32), square or not.
            labels: (B, h, w) class ids, 255 ignored; the loss is computed at their size.
            output_attentions: Also return the fusion's attention weights, which are otherwise never
                materialized; a tuple of (B, heads, N, N) with N = H/16 · W/16, one a fusion layer,
                empty without depth.
            output_hidden_states: Also return the maps on the way: the pyramid at strides 4, 8, 16,
                then (with depth) the projected depth map and the fused map at stride 16, then the
                outputs of the decoder's stages; each (B, C, h, w).
            return_dict: False returns a plain tuple of what is not None.

        Returns:
            `SemanticSegmenterOutput` with `loss`, `logits` (B, num_labels, H/4, W/4), `hidden_states`,
            `attentions`.

        Raises:
            ValueError: The size does not fit (the message names the nearest that does) or the labels
                are out of range.
        """
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = (
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 3:
            raise ValueError(f"pixel_values must be (B, 3, H, W), got {tuple(pixel_values.shape)}")
        self.vision_branch.check_size(*pixel_values.shape[-2:])

        skips = self.vision_branch(pixel_values)
        fused, attentions, maps = skips[-1], (), [*skips]
        if self.config.use_depth:
            depth = self.depth_branch(pixel_values, size=fused.shape[-2:])
            fused, attentions = self.fusion(fused, depth, output_attentions)
            maps += [depth, fused]
        logits, stage_outputs = self.decoder(fused, skips)
        maps += stage_outputs

        loss = None
        if labels is not None:
            loss = landmark_loss(
                logits,
                labels,
                dice_weight=self.config.dice_weight,
                bce_weight=self.config.bce_weight,
                foreground_weight=self.config.foreground_weight,
            )
        output = SemanticSegmenterOutput(
            loss=loss,
            logits=logits,
            hidden_states=tuple(maps) if output_hidden_states else None,
            attentions=attentions if output_attentions else None,
        )
        return output if return_dict else output.to_tuple()

    @classmethod
    def from_vision_depth_pretrained(
        cls, vision: str | os.PathLike, depth: str | os.PathLike | None, **kwargs: Any
    ) -> LiverLandmarkForSemanticSegmentation | tuple[LiverLandmarkForSemanticSegmentation, dict[str, Any]]:
        """Builds the model from a SAM 2.1 and a Depth Anything V2 checkpoint; the rest is newly initialized.

        Only the encoders' weights are read. What was loaded and what was left out is logged, one line
        a checkpoint, and returned with `output_loading_info=True`.

        Args:
            vision: Hub id (`facebook/sam2.1-hiera-large`) or folder of a SAM 2 checkpoint in the
                transformers layout, of type `sam2`, `sam2_video` or `sam2_vision_model`.
            depth: Hub id (`depth-anything/Depth-Anything-V2-Small-hf`) or folder of a Depth Anything
                checkpoint, or of a plain DINOv2; None builds the RGB-only model.
            **kwargs: Fields of [`LiverLandmarkConfig`], and `output_loading_info`, `revision`-like
                options for the Hub under `hub_kwargs`.

        Returns:
            The model in float32, or (model, info) where info maps "vision" and "depth" to the names
            of loaded and left-out tensors.

        Raises:
            ValueError: A checkpoint of another architecture, one that lacks weights of its encoder,
                or a configuration field that is unknown or not to be chosen here.
        """
        output_loading_info = kwargs.pop("output_loading_info", False)
        hub_kwargs = kwargs.pop("hub_kwargs", {})
        unknown = sorted(set(kwargs) - {field.name for field in fields(LiverLandmarkConfig)})
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no field of LiverLandmarkConfig")
        for field in ("vision_config", "depth_config"):
            if field in kwargs:
                raise ValueError(f"{field} is the checkpoint's and cannot be set here")
        if kwargs.setdefault("use_depth", depth is not None) != (depth is not None):
            raise ValueError(
                f"use_depth={kwargs['use_depth']} contradicts depth={depth!r}: leave use_depth out"
            )
        kwargs.update(read_branch_configs(vision, depth, hub_kwargs))
        model = cls(LiverLandmarkConfig(**kwargs))
        info = load_branches(model, vision, depth, hub_kwargs)
        return (model, info) if output_loading_info else model


LiverLandmarkConfig.register_for_auto_class()
LiverLandmarkForSemanticSegmentation.register_for_auto_class("AutoModel")


__all__ = [
    "DECODERS",
    "CrossAttention",
    "CrossAttentionFusion",
    "FusionLayer",
    "LiverLandmarkForSemanticSegmentation",
    "LiverLandmarkPreTrainedModel",
]
