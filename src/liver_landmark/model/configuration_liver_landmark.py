"""Configuration of the liver landmark model."""

from __future__ import annotations

import math
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from .presence_liver_landmark import check_presence_calibration

# SAM 2.1 Large. The smaller ones are in hub_configs/models/.
_HIERA_LARGE: dict[str, Any] = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 144,
    "num_attention_heads": 2,
    "blocks_per_stage": [2, 6, 36, 4],
    "embed_dim_per_stage": [144, 288, 576, 1152],
    "num_attention_heads_per_stage": [2, 4, 8, 16],
    "window_size_per_stage": [8, 4, 16, 8],
    "global_attention_blocks": [23, 33, 43],
}
_VISION_DEFAULTS: dict[str, Any] = {
    "backbone_config": _HIERA_LARGE,
    "backbone_channel_list": [1152, 576, 288, 144],
}

# Depth Anything V2 Small. V2 taps four layers spread over the encoder (V1: the last four).
_DEPTH_DEFAULTS: dict[str, Any] = {
    "image_size": 518,
    "patch_size": 14,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "out_indices": [3, 6, 9, 12],
}

FUSION_QUERIES = ("depth", "rgb")
FUSION_RESIDUALS = ("none", "rgb")
NORM_TYPES = ("group", "batch")
DEPTH_TAPS = ("last", "all")


class LiverLandmarkConfig(PreTrainedConfig):
    r"""Configuration of [`LiverLandmarkForSemanticSegmentation`].

    The defaults are SAM 2.1 Large with Depth Anything V2 Small at 1024×1024. The fields you will
    actually change: `image_size` (speed), `vision_config` (size of the big encoder), `use_depth` (the
    RGB-only baseline), `decoder_type` and the weights of the loss.

    Args:
        vision_config (`Sam2VisionConfig` or `dict`, *optional*):
            The appearance branch. Whatever it is, only its features at strides 4, 8 and 16 are used.
        depth_config (`Dinov2Config` or `dict`, *optional*):
            The geometry branch: the encoder of Depth Anything V2, a DINOv2 backbone whose
            `out_indices` are the tapped layers.
        use_depth (`bool`, defaults to `True`): `False` leaves depth branch and fusion out.
        image_size (`int`, defaults to 1024):
            Side in px of the frames that the model is meant for. Other sizes work; it sets the scale
            of the depth branch's input.
        depth_image_size (`int`, defaults to 518):
            Side in px to which the depth branch resizes a frame of `image_size` (other frames in
            proportion, to whole patches).
        depth_taps (`"last"` or `"all"`, defaults to `"all"`):
            Which of the tapped feature maps are projected into the fusion; the paper takes the last.
        fusion_query (`"depth"` or `"rgb"`, defaults to `"depth"`):
            The branch whose features ask; the other one's are key and value.
        fusion_num_heads (`int`, defaults to 2): Heads of the cross-attention.
        fusion_num_layers (`int`, defaults to 1): Cross-attention layers.
        fusion_pre_norm (`bool`, defaults to `True`):
            Layer normalization of queries and keys before the attention; the paper has none.
        fusion_residual (`"none"` or `"rgb"`, defaults to `"rgb"`):
            `"rgb"` adds the fused features to the RGB features through a learned gate that starts at
            zero, so that training starts from the RGB-only model; `"none"` replaces them, as the paper
            does.
        fusion_dropout (`float`, defaults to 0.0): Dropout on the attention weights.
        decoder_type (`str`, defaults to `"progressive"`):
            A key of the decoder registry: `"progressive"` refines at strides 16, 8 and 4,
            `"released"` stays at stride 16, as the authors' code does.
        decoder_channels (`list[int]`, defaults to `[256, 128, 64]`): Width of the three stages.
        norm_type (`"group"` or `"batch"`, defaults to `"group"`):
            Normalization in depth projection and decoder. Batch statistics make several processes
            and accumulated batches differ from one big batch.
        dice_weight (`float`, defaults to 1.0): Weight of the soft Dice term of the loss.
        bce_weight (`float`, defaults to 1.0): Weight of the binary cross-entropy term.
        foreground_weight (`float`, defaults to 1.0):
            Weight of landmark pixels against background pixels in the cross-entropy.
        initializer_range (`float`, defaults to 0.02): Standard deviation for new Linear layers.
        presence_calibration (`dict`, *optional*):
            How logits become the probability that a landmark is in the frame, as
            `presence_liver_landmark` describes it; `liver-landmark calibrate` writes it into config.json.
        label_colors (`dict[str, list[int]]`, *optional*):
            RGB, 0 to 255, by landmark, for overlays; landmarks that are not named get a color of their own.
        id2label (`dict[int, str]`, *optional*):
            The classes: 0 is the background, the others are landmarks. Defaults to background, ridge,
            silhouette, ligament. `label2id` follows from it.

    Source: arXiv 2511.03163 for the architecture.
    """

    model_type = "liver_landmark"
    sub_configs_defaults = {  # noqa: RUF012 - the name and the mutable default are transformers'
        "vision_config": SubConfigSpec(
            config_class=AutoConfig, model_type="sam2_vision_model", init_kwargs=_VISION_DEFAULTS
        ),
        "depth_config": SubConfigSpec(
            config_class=AutoConfig, model_type="dinov2", init_kwargs=_DEPTH_DEFAULTS
        ),
    }

    vision_config: dict | PreTrainedConfig | None = None
    depth_config: dict | PreTrainedConfig | None = None
    use_depth: bool = True
    image_size: int = 1024
    depth_image_size: int = 518
    depth_taps: str = "all"
    fusion_query: str = "depth"
    fusion_num_heads: int = 2
    fusion_num_layers: int = 1
    fusion_pre_norm: bool = True
    fusion_residual: str = "rgb"
    fusion_dropout: float = 0.0
    decoder_type: str = "progressive"
    decoder_channels: list[int] | None = None
    norm_type: str = "group"
    dice_weight: float = 1.0
    bce_weight: float = 1.0
    foreground_weight: float = 1.0
    initializer_range: float = 0.02
    presence_calibration: dict | None = None
    label_colors: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        # `pipeline` prefers the code that came with a model, and asks for trust_remote_code. Where this
        # package is imported its own pipeline is registered, and nothing of a stranger's has to run.
        if not __name__.startswith("transformers_modules."):
            kwargs.pop("custom_pipelines", None)
        if self.decoder_channels is None:
            self.decoder_channels = [256, 128, 64]
        # `num_labels` alone, of another number, gives transformers' LABEL_0, LABEL_1, …
        if self.id2label is None and kwargs.get("num_labels") in (None, DEFAULT_LANDMARKS.num_classes):
            self.id2label = DEFAULT_LANDMARKS.id2label
        super().__post_init__(**kwargs)
        # The CLS token is dropped and the tokens become a map inside the backbone; its mask token is
        # for pre-training only and would never get a gradient.
        self.depth_config.reshape_hidden_states = True
        self.depth_config.use_mask_token = False
        landmarks = self.landmark_table  # checks names, ids and colors
        self.label2id = landmarks.label2id
        self.presence_calibration = check_presence_calibration(self.presence_calibration, landmarks.names)
        self._check_fields()

    def _check_fields(self) -> None:
        """Raises a ValueError that names the first field that cannot be."""
        choices = {
            "depth_taps": DEPTH_TAPS,
            "fusion_query": FUSION_QUERIES,
            "fusion_residual": FUSION_RESIDUALS,
            "norm_type": NORM_TYPES,
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} must be one of {', '.join(allowed)}, got {getattr(self, field)!r}")
        for field in ("use_depth", "fusion_pre_norm"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(f"{field} must be true or false, got {getattr(self, field)!r}")
        positive = ("image_size", "depth_image_size", "fusion_num_heads", "fusion_num_layers")
        for field in positive:
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{field} must be a positive integer, got {value!r}")
        for field in (
            "dice_weight",
            "bce_weight",
            "foreground_weight",
            "fusion_dropout",
            "initializer_range",
        ):
            value = getattr(self, field)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{field} must be a finite number of at least 0, got {value!r}")
        if self.fusion_dropout >= 1:
            raise ValueError(f"fusion_dropout must be below 1, got {self.fusion_dropout}")
        if self.dice_weight == 0 and self.bce_weight == 0:
            raise ValueError("dice_weight and bce_weight must not both be 0: nothing would be learned")
        channels = self.decoder_channels
        if (
            not isinstance(channels, list | tuple)
            or len(channels) != 3
            or any(not isinstance(width, int) or width < 1 for width in channels)
        ):
            raise ValueError(f"decoder_channels must be three positive integers, got {channels!r}")
        if self.vision_config.model_type != "sam2_vision_model":
            raise ValueError(
                f"vision_config.model_type must be 'sam2_vision_model', got {self.vision_config.model_type!r}"
            )
        if self.vision_config.num_feature_levels != 3:
            raise ValueError(
                f"vision_config.num_feature_levels must be 3 (strides 4, 8 and 16), "
                f"got {self.vision_config.num_feature_levels}"
            )
        _check_hiera(self.vision_config.backbone_config)
        if self.depth_config.model_type != "dinov2":
            raise ValueError(
                f"depth_config.model_type must be 'dinov2', got {self.depth_config.model_type!r}"
            )
        # Layers behind the last tap would be computed for nothing and never get a gradient.
        num_layers, taps = self.depth_config.num_hidden_layers, list(self.depth_config.out_indices)
        last_tap = max(tap % (num_layers + 1) for tap in taps)  # negative ones count from the end
        if last_tap != num_layers:
            raise ValueError(
                f"depth_config.out_indices {taps} must reach the last layer, {num_layers}: add it, "
                f"or set depth_config.num_hidden_layers to {last_tap}"
            )
        if self.fusion_channels % self.fusion_num_heads:
            raise ValueError(
                f"fusion_num_heads ({self.fusion_num_heads}) must divide "
                f"vision_config.fpn_hidden_size ({self.fusion_channels})"
            )

    @property
    def landmark_table(self) -> LandmarkTable:
        """Ids, names and colors of the model's classes; a ValueError where `id2label` cannot be one."""
        return LandmarkTable.from_id2label(self.id2label, self.label_colors)

    @property
    def fusion_channels(self) -> int:
        """Width of the pyramid of the vision branch, and so of fusion tokens."""
        return self.vision_config.fpn_hidden_size


def _check_hiera(hiera: PreTrainedConfig) -> None:
    """Raises a ValueError that names the first field with which SAM 2's encoder is built and cannot run."""
    place = "vision_config.backbone_config"
    if hiera.model_type != "sam2_hiera_det_model":
        raise ValueError(f"{place}.model_type must be 'sam2_hiera_det_model', got {hiera.model_type!r}")
    # Other strides would give maps of other sizes than 4, 8 and 16, which everything behind is built on.
    for field, stride in (("patch_stride", 4), ("query_stride", 2)):
        if getattr(hiera, field) not in ([stride, stride], (stride, stride)):
            raise ValueError(
                f"{place}.{field} must be {[stride, stride]}, got {getattr(hiera, field)!r}: the model takes "
                "features at strides 4, 8 and 16"
            )
    blocks, windows = hiera.blocks_per_stage, hiera.window_size_per_stage
    if min(blocks) < 1:
        raise ValueError(f"{place}.blocks_per_stage must be positive integers, got {list(blocks)}")
    # The pyramid doubles the size from stage to stage, so each stage after the first has to halve it.
    pooled = len(blocks) - 1
    if hiera.num_query_pool_stages != pooled:
        raise ValueError(
            f"{place}.num_query_pool_stages must be {pooled}, one less than the stages, "
            f"got {hiera.num_query_pool_stages}"
        )
    # A stage's first block pools its queries within the windows of the stage before.
    if any(window < 2 or window % 2 for window in windows[:pooled]):
        raise ValueError(
            f"{place}.window_size_per_stage must be even and positive in all stages but the last, "
            f"got {list(windows)}"
        )
    opens = {sum(blocks[:stage]): stage + 1 for stage in range(1, len(blocks))}
    for block in hiera.global_attention_blocks:
        if not 0 <= block < sum(blocks):
            raise ValueError(
                f"{place}.global_attention_blocks must be 0 to {sum(blocks) - 1}, the encoder's blocks, "
                f"got {block}"
            )
        if block in opens:
            raise ValueError(
                f"{place}.global_attention_blocks: block {block} opens stage {opens[block]} and pools its "
                "queries, which it can do within windows only: choose another block of that stage"
            )


__all__ = ["LiverLandmarkConfig"]
