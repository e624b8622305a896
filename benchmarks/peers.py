"""Other people's networks, as models that our training and evaluation take: what benchmarks compare with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
)
from transformers.modeling_outputs import SemanticSegmenterOutput

from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS, IGNORE_INDEX
from liver_landmark.model.losses_liver_landmark import landmark_loss

CLASSES = DEFAULT_LANDMARKS.num_classes


class Peer(nn.Module):
    """A network from frames to logits, trained by our loss."""

    def __init__(self, network: nn.Module, foreground_weight: float) -> None:
        super().__init__()
        self.network = network
        self.foreground_weight = foreground_weight
        self.config = SimpleNamespace(landmark_table=DEFAULT_LANDMARKS)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> SemanticSegmenterOutput:
        logits = self.network(pixel_values)
        loss = None
        if labels is not None:
            loss = landmark_loss(logits, labels, foreground_weight=self.foreground_weight)
        return SemanticSegmenterOutput(loss=loss, logits=logits)


def segresnet(in_channels: int = 3) -> nn.Module:
    """MONAI's SegResNet behind a convolution of stride 2."""
    from monai.networks.nets import SegResNet

    stem = nn.Conv2d(in_channels, 16, 3, stride=2, padding=1)
    return nn.Sequential(
        stem, SegResNet(spatial_dims=2, init_filters=16, in_channels=16, out_channels=CLASSES)
    )


def dynunet() -> nn.Module:
    """MONAI's DynUNet (nnU-Net's architecture), its first level at stride 2."""
    from monai.networks.nets import DynUNet

    return DynUNet(
        2,
        3,
        CLASSES,
        kernel_size=[3] * 5,
        strides=[2] * 5,  # frames' sides are multiples of 32
        upsample_kernel_size=[2] * 4,
        filters=[32, 64, 128, 224, 288],
    )


class Segformer(nn.Module):
    """SegFormer, between its B0 and what trains in minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SegformerForSemanticSegmentation(
            SegformerConfig(
                num_labels=CLASSES,
                hidden_sizes=[24, 48, 96, 160],
                num_attention_heads=[1, 2, 4, 8],
                depths=[2, 2, 2, 2],
                decoder_hidden_size=128,
            )
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values).logits


class Mask2Former(Peer):
    """Mask2Former on a small Swin; it matches masks to classes, so it learns by its own loss."""

    def __init__(self) -> None:
        backbone = SwinConfig(
            image_size=256,
            embed_dim=32,
            depths=[2, 2, 4, 2],
            num_heads=[1, 2, 4, 8],
            window_size=8,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        config = Mask2FormerConfig(
            backbone_config=backbone,
            num_labels=CLASSES,
            feature_size=96,
            mask_feature_size=96,
            hidden_dim=96,
            encoder_feedforward_dim=192,
            encoder_layers=2,
            dim_feedforward=192,
            decoder_layers=3,
            num_attention_heads=4,
            num_queries=12,
            train_num_points=2048,
        )
        super().__init__(Mask2FormerForUniversalSegmentation(config), 1.0)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> SemanticSegmenterOutput:
        targets: dict[str, Any] = {}
        if labels is not None:
            classes = [found[found != IGNORE_INDEX] for found in (frame.unique() for frame in labels)]
            targets["class_labels"] = classes
            targets["mask_labels"] = [
                (frame[None] == found[:, None, None]).float()
                for frame, found in zip(labels, classes, strict=True)
            ]
        output = self.network(pixel_values, **targets)
        # As its post-processing: a class's masks, as sure as its queries are of the class.
        classes = output.class_queries_logits.softmax(dim=-1)[..., :-1]
        masks = output.masks_queries_logits.sigmoid()
        scores = torch.einsum("bqc,bqhw->bchw", classes, masks)
        return SemanticSegmenterOutput(loss=output.loss, logits=(scores + 1e-6).log())
