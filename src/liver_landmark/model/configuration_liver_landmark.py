"""Configuration of the liver landmark model."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
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

# The strides of the decoders' stages; the coarsest is where depth is fused.
STAGE_STRIDES = (16, 8, 4, 2)
FUSION_TYPES = ("cross_attention", "bidirectional", "gated")
FUSION_QUERIES = ("depth", "rgb")
FUSION_RESIDUALS = ("none", "rgb")
NORM_TYPES = ("group", "batch")
DEPTH_TAPS = ("last", "all")
DEPTH_TARGETS = ("none", "depth", "edges", "both")
LOSS_WEIGHTS = (
    "dice_weight",
    "bce_weight",
    "focal_tversky_weight",
    "cldice_weight",
    "skeleton_recall_weight",
    "boundary_weight",
)
_POSITIVE_INTEGERS = (
    "image_size",
    "depth_image_size",
    "fusion_num_heads",
    "fusion_num_layers",
    "backbone_channels",
    "decoder_hidden_size",
    "decoder_num_layers",
    "decoder_num_heads",
    "num_curves",
)
_NUMBERS_FROM_0 = (
    "foreground_weight",
    "deep_supervision_weight",
    "label_softening_px",
    "depth_target_weight",
    "fusion_dropout",
    "initializer_range",
)


# Small convolutional encoders with ImageNet weights.

# Variant -> factors on the widths and on the numbers of blocks of variant 0.
EFFICIENTNET_LITE_VARIANTS: dict[int, tuple[float, float]] = {
    0: (1.0, 1.0),
    1: (1.0, 1.1),
    2: (1.1, 1.2),
    3: (1.2, 1.4),
    4: (1.4, 1.8),
}
# Of variant 0: blocks, kernel, stride of the first block, expansion, output channels. The first and the last
# stage keep their number of blocks in every variant.
_EFFICIENTNET_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
PADDINGS = ("same", "symmetric")


@dataclass(frozen=True)
class EfficientNetStage:
    """One stage of an EfficientNet: its blocks, and the stride of the first of them.

    Attributes:
        blocks: How many.
        kernel: Side of the depthwise convolutions.
        stride: Of the first block.
        expansion: Factor on the channels within a block.
        channels: Of the stage's output.
        is_level: Its output is a level of the pyramid, the last one at its stride.
    """

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int
    is_level: bool


class EfficientNetLiteConfig(PreTrainedConfig):
    """Configuration of [`EfficientNetLiteModel`], an encoder with ImageNet weights that runs fast on a CPU.

    Args:
        variant (`int`, defaults to 0): 0 to 4, the larger the wider and deeper.
        padding (`"same"` or `"symmetric"`, defaults to `"same"`):
            How convolutions of stride 2 are padded: as TensorFlow does (the published Lite weights, timm's
            `tf_efficientnet_lite*`), or alike on both sides (timm's `efficientnet_lite*`).
        image_mean (`list[float]`, defaults to 127/255):
            Mean per channel, of images in 0..1, that the weights were trained with. Frames come normalized
            by ImageNet's statistics, like those for every other encoder, and are converted.
        image_std (`list[float]`, defaults to 128/255): Likewise, the standard deviation.
        freeze_batch_norm (`bool`, defaults to `True`):
            Keep the statistics of the batch normalization in training: small batches estimate them badly,
            and folded into the convolutions they cost nothing.
        batch_norm_eps (`float`, defaults to 1e-3): Added to the variance.
        num_levels (`int`, defaults to 5):
            Levels of the pyramid, from stride 2 on; blocks behind the last one are left out.

    Source: arXiv 1905.11946, and the Lite variants in TensorFlow's TPU repository.
    """

    model_type = "efficientnet_lite"

    variant: int = 0
    padding: str = "same"
    image_mean: list[float] | None = None
    image_std: list[float] | None = None
    freeze_batch_norm: bool = True
    batch_norm_eps: float = 1e-3
    num_levels: int = 5

    def __post_init__(self, **kwargs: Any) -> None:
        if self.image_mean is None:
            self.image_mean = [127 / 255] * 3
        if self.image_std is None:
            self.image_std = [128 / 255] * 3
        super().__post_init__(**kwargs)
        if type(self.variant) is not int or self.variant not in EFFICIENTNET_LITE_VARIANTS:
            variants = ", ".join(map(str, EFFICIENTNET_LITE_VARIANTS))
            raise ValueError(f"efficientnet_lite: variant must be one of {variants}, got {self.variant!r}")
        if self.padding not in PADDINGS:
            raise ValueError(
                f"efficientnet_lite: padding must be one of {', '.join(PADDINGS)}, got {self.padding!r}"
            )
        for field in ("image_mean", "image_std"):
            values = getattr(self, field)
            if (
                not isinstance(values, list | tuple)
                or len(values) != 3
                or not all(isinstance(value, int | float) and math.isfinite(value) for value in values)
            ):
                raise ValueError(f"efficientnet_lite: {field} must be three finite numbers, got {values!r}")
        if min(self.image_std) <= 0:
            raise ValueError(f"efficientnet_lite: image_std must be positive, got {self.image_std!r}")
        if not isinstance(self.freeze_batch_norm, bool):
            raise ValueError(
                f"efficientnet_lite: freeze_batch_norm must be true or false, got {self.freeze_batch_norm!r}"
            )
        if not isinstance(self.batch_norm_eps, int | float) or not 0 < self.batch_norm_eps < 1:
            raise ValueError(
                f"efficientnet_lite: batch_norm_eps must be between 0 and 1, got {self.batch_norm_eps!r}"
            )
        if self.num_levels not in (4, 5):
            raise ValueError(
                f"efficientnet_lite: num_levels must be 4 (to stride 16) or 5, got {self.num_levels!r}"
            )

    @property
    def stages(self) -> list[EfficientNetStage]:
        """The stages of the variant, seven or, to stride 16, five."""
        wider, deeper = EFFICIENTNET_LITE_VARIANTS[self.variant]
        last = len(_EFFICIENTNET_STAGES) - 1
        stages = [
            EfficientNetStage(
                blocks if index in (0, last) else math.ceil(blocks * deeper),
                kernel,
                stride,
                expansion,
                _round_width(channels * wider),
                # The next stage halves the map, or there is none.
                index == last or _EFFICIENTNET_STAGES[index + 1][2] == 2,
            )
            for index, (blocks, kernel, stride, expansion, channels) in enumerate(_EFFICIENTNET_STAGES)
        ]
        ends = [index for index, stage in enumerate(stages) if stage.is_level]
        return stages[: ends[self.num_levels - 1] + 1]

    @property
    def level_channels(self) -> dict[int, int]:
        """Stride, 2 to 32 -> channels of the pyramid's level."""
        levels = [stage.channels for stage in self.stages if stage.is_level]
        return {2 ** (number + 1): channels for number, channels in enumerate(levels)}


def _round_width(width: float) -> int:
    """The nearest multiple of 8, but not less than 90 % of `width`: EfficientNet's rule."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


class LiverLandmarkConfig(PreTrainedConfig):
    r"""Configuration of [`LiverLandmarkForSemanticSegmentation`].

    The defaults are SAM 2.1 Large with Depth Anything V2 Small at 1024×1024. The fields you will
    actually change: `image_size` (speed), `vision_config` (size of the big encoder), `use_depth` (the
    RGB-only baseline), `decoder_type` and the weights of the loss.

    Args:
        vision_config (`PreTrainedConfig` or `dict`, *optional*):
            The appearance branch, by its `model_type`: `sam2_vision_model` (the default),
            `sam_vision_model`, `efficientnet_lite`, or any backbone of transformers (`hiera`, `swin`,
            `convnextv2`, `dinov2`, `resnet`, …). Its features at strides 4, 8 and 16 are used, and at 2
            and 32 where it has them.
        depth_config (`PreTrainedConfig` or `dict`, *optional*):
            The geometry branch: the encoder of Depth Anything V2, a DINOv2 backbone whose
            `out_indices` are the tapped layers; or a small `efficientnet_lite`.
        use_depth (`bool`, defaults to `True`): `False` leaves depth branch and fusion out.
        image_size (`int`, defaults to 1024):
            Side in px of the frames that the model is meant for. Other sizes work; it sets the scale
            of the depth branch's input.
        depth_image_size (`int`, defaults to 518):
            Side in px to which the depth branch resizes a frame of `image_size` (other frames in
            proportion, to whole patches).
        depth_taps (`"last"` or `"all"`, defaults to `"all"`):
            Which of the tapped feature maps are projected into the fusion; the paper takes the last.
        fusion_type (`str`, defaults to `"cross_attention"`):
            `"cross_attention"` at stride 16, one branch asking the other (the paper); `"bidirectional"`:
            the same, and the other way round; `"gated"`: added at every level of the pyramid, through a
            gate for each pixel.
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
            A key of the decoder registry: `"progressive"` refines from stride 16 on, `"released"` stays
            at stride 16, as the authors' code does, `"unet"` is the progressive one with less work a
            stage, `"mask_transformer"` has a query for each class, `"curve"` gives polylines.
        decoder_channels (`list[int]`, defaults to `[256, 128, 64]`):
            Width of the stages at strides 16, 8, 4 and, if there are four, 2. The last one's stride is
            that of the logits.
        detail_channels (`int`, defaults to 0):
            Width of a stream of convolutions at stride 2 beside an encoder that has no features there;
            0: none.
        backbone_channels (`int`, defaults to 256):
            Width to which the features of encoders without a pyramid of one width are projected: of all
            but `sam2_vision_model` and `efficientnet_lite`.
        context_num_layers (`int`, defaults to 0):
            Self-attention layers, `decoder_hidden_size` wide, on the map that the decoder starts from.
        decoder_hidden_size (`int`, defaults to 128):
            Width of the queries of the transformer decoders and of the context layers.
        decoder_num_layers (`int`, defaults to 3): Layers of the transformer decoders.
        decoder_num_heads (`int`, defaults to 4): Heads of the attentions of both.
        num_curves (`int`, defaults to 12): Most curves that the decoder `"curve"` can find in a frame.
        num_curve_points (`int`, defaults to 24): Points of each.
        norm_type (`"group"` or `"batch"`, defaults to `"group"`):
            Normalization in depth projection and decoder. Batch statistics make several processes
            and accumulated batches differ from one big batch.
        dice_weight (`float`, defaults to 1.0): Weight of the soft Dice term of the loss.
        bce_weight (`float`, defaults to 1.0): Weight of the binary cross-entropy term.
        foreground_weight (`float`, defaults to 1.0):
            Weight of landmark pixels against background pixels in the cross-entropy.
        focal_tversky_weight (`float`, defaults to 0.0):
            Weight of the focal Tversky loss, which punishes missed pixels more than invented ones.
        cldice_weight (`float`, defaults to 0.0): Weight of the centerline Dice loss.
        skeleton_recall_weight (`float`, defaults to 0.0): Weight of the skeleton recall loss.
        boundary_weight (`float`, defaults to 0.0):
            Weight of the boundary loss: probability far from the strokes costs by its distance.
        deep_supervision_weight (`float`, defaults to 0.0):
            Weight of the same losses on logits of the decoder's earlier stages or layers.
        label_softening_px (`float`, defaults to 0.0):
            Standard deviation, in px of the labels, of a blur across the strokes of the targets.
        depth_target (`"none"`, `"depth"`, `"edges"` or `"both"`, defaults to `"none"`):
            What the decoder learns alongside from `depth_labels`: inverse depth up to scale and shift,
            the edges at which one surface hides another, or both.
        depth_target_weight (`float`, defaults to 0.5): Weight of that in the loss.
        depth_feedback (`bool`, defaults to `False`):
            Let the classifier see what the decoder predicts of the depth.
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
    fusion_type: str = "cross_attention"
    fusion_query: str = "depth"
    fusion_num_heads: int = 2
    fusion_num_layers: int = 1
    fusion_pre_norm: bool = True
    fusion_residual: str = "rgb"
    fusion_dropout: float = 0.0
    decoder_type: str = "progressive"
    decoder_channels: list[int] | None = None
    detail_channels: int = 0
    backbone_channels: int = 256
    context_num_layers: int = 0
    decoder_hidden_size: int = 128
    decoder_num_layers: int = 3
    decoder_num_heads: int = 4
    num_curves: int = 12
    num_curve_points: int = 24
    norm_type: str = "group"
    dice_weight: float = 1.0
    bce_weight: float = 1.0
    foreground_weight: float = 1.0
    focal_tversky_weight: float = 0.0
    cldice_weight: float = 0.0
    skeleton_recall_weight: float = 0.0
    boundary_weight: float = 0.0
    deep_supervision_weight: float = 0.0
    label_softening_px: float = 0.0
    depth_target: str = "none"
    depth_target_weight: float = 0.5
    depth_feedback: bool = False
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
        # Not one of transformers' own, so that they cannot make it from its `model_type`.
        for field in ("vision_config", "depth_config"):
            given = getattr(self, field)
            if isinstance(given, PreTrainedConfig):
                # What is set below is this model's own.
                setattr(self, field, copy.deepcopy(given))
            elif isinstance(given, dict) and given.get("model_type") == EfficientNetLiteConfig.model_type:
                setattr(self, field, EfficientNetLiteConfig(**given))
        super().__post_init__(**kwargs)
        for config in (self.vision_config, self.depth_config):
            _prepare_backbone(config)
        if is_hierarchical(self.vision_config) and len(self.vision_config.out_features or ()) <= 1:
            # Without being asked, a backbone gives its last stage only.
            stages = [name for name in self.vision_config.stage_names if name != "stem"]
            self.vision_config.out_features = stages
        if isinstance(self.depth_config, EfficientNetLiteConfig):
            # Depth is fused at stride 16 at the coarsest: blocks behind would be computed for nothing.
            self.depth_config.num_levels = 4
        landmarks = self.landmark_table  # checks names, ids and colors
        self.label2id = landmarks.label2id
        self.presence_calibration = check_presence_calibration(self.presence_calibration, landmarks.names)
        self._check_fields()

    def _check_fields(self) -> None:
        """Raises a ValueError that names the first field that cannot be."""
        choices = {
            "depth_taps": DEPTH_TAPS,
            "depth_target": DEPTH_TARGETS,
            "fusion_type": FUSION_TYPES,
            "fusion_query": FUSION_QUERIES,
            "fusion_residual": FUSION_RESIDUALS,
            "norm_type": NORM_TYPES,
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} must be one of {', '.join(allowed)}, got {getattr(self, field)!r}")
        for field in ("use_depth", "fusion_pre_norm", "depth_feedback"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(f"{field} must be true or false, got {getattr(self, field)!r}")
        smallest = dict.fromkeys(_POSITIVE_INTEGERS, 1) | {
            "detail_channels": 0,
            "context_num_layers": 0,
            "num_curve_points": 2,
        }
        for field, least in smallest.items():
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
                raise ValueError(f"{field} must be {kind}, got {value!r}")
        for field in (*LOSS_WEIGHTS, *_NUMBERS_FROM_0):
            value = getattr(self, field)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{field} must be a finite number of at least 0, got {value!r}")
        if self.fusion_dropout >= 1:
            raise ValueError(f"fusion_dropout must be below 1, got {self.fusion_dropout}")
        learns_depth = self.depth_target != "none" and self.depth_target_weight > 0
        learns_strokes = any(getattr(self, field) for field in LOSS_WEIGHTS)
        if not learns_strokes and not learns_depth and self.decoder_type != "curve":
            raise ValueError(f"{', '.join(LOSS_WEIGHTS)} must not all be 0: nothing would be learned")
        if self.depth_feedback and self.depth_target == "none":
            raise ValueError("depth_feedback needs a depth_target: depth, edges or both")
        self._check_stages()
        if self.vision_config.model_type == "sam2_vision_model":
            _check_sam2(self.vision_config)
        elif self.vision_config.model_type == "sam_vision_model" and self.vision_config.patch_size != 16:
            raise ValueError(
                "vision_config.patch_size must be 16, as its features are taken to lie at stride 16, "
                f"got {self.vision_config.patch_size}"
            )
        if self.depth_config.model_type == "dinov2":
            _check_taps(self.depth_config)
        elif self.depth_config.model_type != EfficientNetLiteConfig.model_type:
            raise ValueError(
                f"depth_config.model_type must be dinov2 or {EfficientNetLiteConfig.model_type}, "
                f"got {self.depth_config.model_type!r}"
            )
        if self.fusion_channels % self.fusion_num_heads:
            raise ValueError(
                f"fusion_num_heads ({self.fusion_num_heads}) must divide the width of the features at "
                f"stride 16 ({self.fusion_channels})"
            )
        if self.decoder_hidden_size % self.decoder_num_heads:
            raise ValueError(
                f"decoder_num_heads ({self.decoder_num_heads}) must divide "
                f"decoder_hidden_size ({self.decoder_hidden_size})"
            )

    def _check_stages(self) -> None:
        channels = self.decoder_channels
        if (
            not isinstance(channels, list | tuple)
            or len(channels) not in (3, 4)
            or any(not isinstance(width, int) or isinstance(width, bool) or width < 1 for width in channels)
        ):
            raise ValueError(f"decoder_channels must be three or four positive integers, got {channels!r}")
        has_stride_2 = self.vision_config.model_type == EfficientNetLiteConfig.model_type
        if self.detail_channels and has_stride_2:
            raise ValueError("detail_channels must be 0: the vision encoder has features at stride 2")
        if self.output_stride == 2 and not (self.detail_channels or has_stride_2):
            raise ValueError(
                f"decoder_channels {channels}: a fourth stage needs features at stride 2, which the vision "
                "encoder does not have: set detail_channels"
            )
        ignored = {
            "released": ("context_num_layers", "deep_supervision_weight"),
            "curve": ("deep_supervision_weight",),
        }
        for field in ignored.get(self.decoder_type, ()):
            if getattr(self, field):
                raise ValueError(f"{field} must be 0: the decoder {self.decoder_type} does not look at it")
        if self.detail_channels and self.output_stride > 2:
            raise ValueError(
                f"detail_channels is {self.detail_channels}, but no stage of the decoder is at stride 2: "
                f"give decoder_channels a fourth width, or set it to 0"
            )

    @property
    def landmark_table(self) -> LandmarkTable:
        """Ids, names and colors of the model's classes; a ValueError where `id2label` cannot be one."""
        return LandmarkTable.from_id2label(self.id2label, self.label_colors)

    @property
    def output_stride(self) -> int:
        """Frame px per logit."""
        return STAGE_STRIDES[len(self.decoder_channels) - 1]

    @property
    def fusion_channels(self) -> int:
        """Width of the vision branch's features at stride 16, and so of fusion tokens."""
        if self.vision_config.model_type == "sam2_vision_model":
            return self.vision_config.fpn_hidden_size
        if self.vision_config.model_type == EfficientNetLiteConfig.model_type:
            return self.vision_config.level_channels[16]
        return self.backbone_channels


def _prepare_backbone(config: PreTrainedConfig) -> None:
    """Sets what the model needs of an encoder, whatever its checkpoint was made for."""
    if hasattr(config, "reshape_hidden_states"):
        # The CLS token is dropped and the tokens become a map inside the backbone.
        config.reshape_hidden_states = True
    if hasattr(config, "use_mask_token"):
        # It is for pre-training only and would never get a gradient.
        config.use_mask_token = False


def is_hierarchical(config: PreTrainedConfig) -> bool:
    """Whether a backbone of transformers halves its map from stage to stage; plain ones have layers only."""
    per_stage = [getattr(config, name, None) for name in ("depths", "hidden_sizes")]
    return getattr(config, "stage_names", None) is not None and any(
        isinstance(values, list | tuple) for values in per_stage
    )


def _check_taps(depth: PreTrainedConfig) -> None:
    # Layers behind the last tap would be computed for nothing and never get a gradient.
    num_layers, taps = depth.num_hidden_layers, list(depth.out_indices)
    last_tap = max(tap % (num_layers + 1) for tap in taps)  # negative ones count from the end
    if last_tap != num_layers:
        raise ValueError(
            f"depth_config.out_indices {taps} must reach the last layer, {num_layers}: add it, "
            f"or set depth_config.num_hidden_layers to {last_tap}"
        )


def _check_sam2(vision: PreTrainedConfig) -> None:
    if vision.num_feature_levels != 3:
        raise ValueError(
            "vision_config.num_feature_levels must be 3 (strides 4, 8 and 16), "
            f"got {vision.num_feature_levels}"
        )
    _check_hiera(vision.backbone_config)


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


__all__ = ["EfficientNetLiteConfig", "LiverLandmarkConfig", "is_hierarchical"]
