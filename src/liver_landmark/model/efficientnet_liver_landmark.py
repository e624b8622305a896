"""EfficientNet-Lite: a small convolutional vision encoder that comes with ImageNet weights.

Inverted bottlenecks with ReLU6 and without squeeze-and-excitation. Sources: arXiv 1905.11946 (EfficientNet),
the Lite variants of the TensorFlow TPU repository. Modules are named as timm names them, so that weights of
timm's `efficientnet_lite*` and `tf_efficientnet_lite*` fit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput

from .configuration_liver_landmark import EfficientNetLiteConfig, EfficientNetStage

_STEM_CHANNELS = 32
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def new_norm(config: EfficientNetLiteConfig, channels: int) -> nn.BatchNorm2d:
    """The batch normalization that follows a convolution."""
    return nn.BatchNorm2d(channels, eps=config.batch_norm_eps, momentum=0.01)


def convolve(
    config: EfficientNetLiteConfig, features: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d
) -> Tensor:
    """norm(conv(features)), in one pass over the map wherever the statistics stay what they are."""
    weight, bias = conv.weight, None
    is_fixed = config.freeze_batch_norm or not norm.training
    if is_fixed:
        factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = weight * factor[:, None, None, None]
        bias = norm.bias - norm.running_mean * factor
    if conv.stride[0] == 2 and config.padding == "same":
        # On even sides TensorFlow pads one row and one column less before the frame than after it. A row and
        # a column of zeros before the kernel do the same, and cost no copy of the map.
        weight = F.pad(weight, (1, 0, 1, 0))
    # A 1×1 kernel does not feel its dilation; but on one CPU thread torch takes its fast convolution for
    # dilated ones only: a quarter less time for the encoder.
    dilation = 2 if conv.kernel_size[0] == 1 and features.device.type == "cpu" else 1
    result = F.conv2d(features, weight, bias, conv.stride, conv.kernel_size[0] // 2, dilation, conv.groups)
    return result if is_fixed else norm(result)


class DepthwiseSeparableBlock(GradientCheckpointingLayer):
    """Depthwise convolution and projection: the block of the first stage."""

    def __init__(self, config: EfficientNetLiteConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.config = config
        self.conv_dw = nn.Conv2d(in_channels, in_channels, 3, groups=in_channels, bias=False)
        self.bn1 = new_norm(config, in_channels)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = new_norm(config, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        features = F.relu6(convolve(self.config, features, self.conv_dw, self.bn1), inplace=True)
        return convolve(self.config, features, self.conv_pw, self.bn2)


class InvertedResidualBlock(GradientCheckpointingLayer):
    """Expansion, depthwise convolution, projection; added to its input where the sizes are equal."""

    def __init__(
        self,
        config: EfficientNetLiteConfig,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expansion: int,
    ) -> None:
        super().__init__()
        self.config = config
        wide = in_channels * expansion
        self.is_residual = stride == 1 and in_channels == out_channels
        self.conv_pw = nn.Conv2d(in_channels, wide, 1, bias=False)
        self.bn1 = new_norm(config, wide)
        self.conv_dw = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn2 = new_norm(config, wide)
        self.conv_pwl = nn.Conv2d(wide, out_channels, 1, bias=False)
        self.bn3 = new_norm(config, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        wide = F.relu6(convolve(self.config, features, self.conv_pw, self.bn1), inplace=True)
        wide = F.relu6(convolve(self.config, wide, self.conv_dw, self.bn2), inplace=True)
        projected = convolve(self.config, wide, self.conv_pwl, self.bn3)
        return features + projected if self.is_residual else projected


class EfficientNetLiteModel(PreTrainedModel):
    """Encoder of a frame: a pyramid of maps at strides 2, 4, 8, 16 and 32, or fewer (`config.num_levels`)."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ("InvertedResidualBlock",)
    # It has no attention: any implementation suits it.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.conv_stem = nn.Conv2d(3, _STEM_CHANNELS, 3, 2, bias=False)
        self.bn1 = new_norm(config, _STEM_CHANNELS)
        self.blocks = nn.ModuleList()
        in_channels = _STEM_CHANNELS
        for settings in config.stages:
            stage = nn.Sequential()
            for number in range(settings.blocks):
                stage.append(self._new_block(settings, in_channels, is_first=number == 0))
                in_channels = settings.channels
            self.blocks.append(stage)
        self.post_init()

    def _new_block(self, stage: EfficientNetStage, in_channels: int, is_first: bool) -> nn.Module:
        if stage.expansion == 1:
            return DepthwiseSeparableBlock(self.config, in_channels, stage.channels)
        return InvertedResidualBlock(
            self.config,
            in_channels,
            stage.channels,
            stage.kernel,
            stage.stride if is_first else 1,
            stage.expansion,
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.conv_stem

    def forward(self, pixel_values: Tensor) -> BackboneOutput:
        """(B, 3, H, W), normalized by ImageNet's statistics -> maps at strides 2, 4, …"""
        scale = [std / own for std, own in zip(_IMAGENET_STD, self.config.image_std, strict=True)]
        shift = [
            (mean - own) / std
            for mean, own, std in zip(
                _IMAGENET_MEAN, self.config.image_mean, self.config.image_std, strict=True
            )
        ]
        gain, bias = (pixel_values.new_tensor(values)[:, None, None] for values in (scale, shift))
        features = pixel_values * gain + bias
        features = F.relu6(convolve(self.config, features, self.conv_stem, self.bn1), inplace=True)
        maps = []
        for stage, settings in zip(self.blocks, self.config.stages, strict=True):
            features = stage(features)
            if settings.is_level:
                maps.append(features)
        return BackboneOutput(feature_maps=tuple(maps))


__all__ = ["EfficientNetLiteModel"]
