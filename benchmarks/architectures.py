"""Networks at equal cost: each trains for the same CPU seconds on one thread, then all are scored alike.

    python benchmarks/architectures.py train --data-a DIR --data-b DIR --output DIR [--groups networks …]
    python benchmarks/architectures.py time --output DIR
    python benchmarks/architectures.py report --output DIR

`--data-a` and `--data-b` are sets of `liver-landmark data build synthetic`: those of the quick start. Frames,
augmentation, loss, schedule and smaller frames at the start are the recipe synthetic_compact's for every
network; the learning rate is what the row says, and half of it for encoders that come with weights. CPU
seconds are this process's own: what else the machine does costs a row little but its share of the caches.

A finished run is a file in DIR/runs. A second call goes on from there, and two calls at once share the work.
`report` writes DIR/report.md from what there is.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

# Read when torch is imported. Threads that wait actively collapse when anything else uses a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import datasets
import numpy as np
import torch
from filelock import FileLock, Timeout
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SemanticSegmenterOutput

from liver_landmark import LiverLandmarkForSemanticSegmentation, LiverLandmarkImageProcessor
from liver_landmark.cli.options import quiet_libraries
from liver_landmark.curves.tracing import trace_polylines
from liver_landmark.data.augmentation import Augmentation
from liver_landmark.data.augmentation_config import AugmentationConfig
from liver_landmark.data.loading import load_landmark_dataset
from liver_landmark.evaluation import evaluate_model
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.model.losses_liver_landmark import blurred
from liver_landmark.training.loop import shrunk
from liver_landmark.training.models import build_model
from liver_landmark.training.optimizers import learning_rate_factor, parameter_groups
from liver_landmark.training.recipe import ModelConfig, Recipe, parse_recipe
from liver_landmark.training.training_frames import (
    FrameOrder,
    TrainingFrames,
    balancing_weights,
    build_loader,
)
from liver_landmark.training.training_run import build_average
from liver_landmark.utils.atomic_files import write_json, write_text
from liver_landmark.utils.hub_configs import preset_folder
from peers import Mask2Former, Peer, Segformer, dynunet, segresnet
from shared import WIDTH, environment, markdown_table, new_parser, positive_int

NAMES = DEFAULT_LANDMARKS.names
FULL_SECONDS = 780
TOLERANCES_PX = (5, 10, 20)  # of a frame 1920 px wide
# Of the frames that validate schedules, not of the runs: fractions of the budget, not steps.
_SCHEDULE_STEPS = 10_000
_AVERAGE_DECAY = 0.99
STRONG = AugmentationConfig(
    horizontal_flip=0.5,
    rotation=0.7,
    rotation_degrees=25,
    scale=0.5,
    scale_range=(0.6, 1.6),
    crop=0.3,
    brightness=0.35,
    contrast=0.35,
    gamma=0.35,
    color=0.2,
    blur_px=4.0,
    noise=0.04,
    smoke=0.2,
    blood=0.2,
)


# Ours.


def ours(preset: str, init: str = "random", vision: str | None = None, **overrides: Any) -> nn.Module:
    """A preset of this package, or one with other fields."""
    config = ModelConfig(architecture=preset, init=init, vision=vision, overrides=overrides)
    return build_model(config)[0]


compact = partial(ours, "compact", "encoders", "efficientnet-lite0")


# Depth as further channels of the frame.


def depth_channel(inverse_depth: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """(B, H, W) inverse depth, 0 unknown -> (B, 1, H, W) channel of mean 0 and spread 1.

    Args:
        inverse_depth: In any unit: what is left of it has no scale and no shift, as Depth Anything's.
        kind: `true`; or `like_network`: blurred by 3 px of 256 and off by a smooth error of a tenth of the
            spread, as a network's is.
        generator: Draws the errors.
    """
    known = (inverse_depth > 0).float()
    if kind == "like_network":
        sigma_px = 3 * inverse_depth.shape[-1] / 256
        inverse_depth = blurred(inverse_depth[:, None], sigma_px)[:, 0]
    count = known.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    mean = (inverse_depth * known).sum(dim=(1, 2), keepdim=True) / count
    spread = ((inverse_depth - mean) ** 2 * known).sum(dim=(1, 2), keepdim=True) / count
    channel = (inverse_depth - mean) / spread.sqrt().clamp_min(1e-9) * known
    if kind == "like_network":
        errors = torch.randn(len(channel), 1, 6, 6, generator=generator)
        channel = channel + 0.1 * F.interpolate(errors, size=channel.shape[-2:], mode="bicubic")[:, 0]
    return channel[:, None]


class WithDepthChannel(nn.Module):
    """A `compact` model whose encoder sees a fourth channel too, by a stem of its own that starts at zero."""

    def __init__(self, model: LiverLandmarkForSemanticSegmentation) -> None:
        super().__init__()
        self.model, self.config = model, model.config
        encoder = model.vision_branch.encoder
        self.stem = nn.Conv2d(1, encoder.conv_stem.out_channels, 3, stride=2, padding=1, bias=False)
        nn.init.zeros_(self.stem.weight)
        self._channel: Tensor | None = None
        encoder.blocks[0].register_forward_pre_hook(self._add)

    def _add(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] + self.stem(self._channel),)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> SemanticSegmenterOutput:
        self._channel = pixel_values[:, 3:]
        return self.model(pixel_values[:, :3], labels)


class WithPredictedDepth(nn.Module):
    """The same, its fourth channel being what a frozen network says of depth."""

    def __init__(self, model: nn.Module, depth: nn.Module) -> None:
        super().__init__()
        self.inner = WithDepthChannel(model)
        self.config = model.config
        self.depth = depth.requires_grad_(False)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> SemanticSegmenterOutput:
        with torch.no_grad():
            self.depth.eval()
            predicted = self.depth(pixel_values).predicted_depth
            mean, spread = predicted.mean(dim=(1, 2), keepdim=True), predicted.std(dim=(1, 2), keepdim=True)
            channel = ((predicted - mean) / spread.clamp_min(1e-6))[:, None]
            size = pixel_values.shape[-2:]
            channel = F.interpolate(channel, size=size, mode="bilinear", align_corners=False)
        return self.inner(torch.cat([pixel_values, channel], dim=1), labels)


# The rows.


@dataclass(frozen=True)
class Row:
    """A network and how it trains.

    Attributes:
        group: The table that it stands in.
        title: What the table calls it.
        build: Makes it, from the folder of the benchmark's runs.
        seconds: CPU seconds of training.
        seeds: Seeds of weights, order and augmentation.
        lr: Peak learning rate.
        encoder_lr_factor: Factor on it for the encoder; None: the recipe's, for an encoder with weights.
        domains: Whose frames it learns from.
        augmentation: None: the recipe's.
        channel: Kind of `depth_channel` that frames come with.
        balance: Draw frames of rare landmarks more often.
        average: Score the moving average of the weights.
        curves: Score polylines too.
    """

    group: str
    title: str
    build: Callable[[Path], nn.Module]
    seconds: int = 200
    seeds: tuple[int, ...] = (0,)
    lr: float = 3e-3
    encoder_lr_factor: float | None = None
    domains: tuple[str, ...] = ("a",)
    augmentation: AugmentationConfig | None = None
    channel: str | None = None
    balance: bool = False
    average: bool = False
    curves: bool = False


def _rows() -> dict[str, Row]:
    weight = 4.0  # the preset's
    full, three = FULL_SECONDS, (0, 1, 2)

    def peer(network: Callable[[], nn.Module]) -> Callable[[Path], nn.Module]:
        return lambda _: Peer(network(), weight)

    def model(make: Callable[..., nn.Module], **overrides: Any) -> Callable[[Path], nn.Module]:
        return lambda _: make(**overrides)

    tiny = partial(ours, "synthetic-tiny", foreground_weight=weight)
    detail = {"decoder_channels": [64, 64, 48, 32], "detail_channels": 16}
    transformer = {"decoder_num_layers": 3, "decoder_hidden_size": 96}
    # Of encoders that start from random weights.
    whole = {"encoder_lr_factor": 1.0}
    slow = whole | {"lr": 1.5e-3}
    rows = {
        "compact_large": Row(
            "networks",
            "**compact-large** (EfficientNet-Lite2, ImageNet)",
            lambda _: ours("compact-large", "encoders", "efficientnet-lite2"),
            full,
            three,
        ),
        "compact": Row("networks", "**compact** (EfficientNet-Lite0, ImageNet)", model(compact), full),
        "segresnet": Row("networks", "MONAI SegResNet", peer(segresnet), full, three),
        "tiny_fused": Row(
            "networks",
            "synthetic-tiny, RGB + depth branch",
            model(tiny),
            full,
            **slow,
        ),
        "tiny_rgb": Row(
            "networks",
            "synthetic-tiny, RGB only",
            model(tiny, use_depth=False),
            full,
            **slow,
        ),
        "dynunet": Row("networks", "MONAI DynUNet", peer(dynunet), full),
        "segformer": Row("networks", "SegFormer", peer(Segformer), full, **slow),
        "compact_random": Row(
            "networks", "compact, random weights", model(ours, preset="compact"), full, **whole
        ),
        "mask2former": Row("networks", "Mask2Former, small", lambda _: Mask2Former(), full, lr=1e-3),
        "compact_strong": Row(
            "networks",
            "compact, strong augmentation, a and b",
            model(compact),
            full,
            domains=("a", "b"),
            augmentation=STRONG,
        ),
        "tiny_rgb_detail": Row(
            "networks",
            "synthetic-tiny, RGB only, detail stream",
            model(tiny, use_depth=False, **detail),
            full,
            **slow,
        ),
        "tiny_fused_detail": Row(
            "networks",
            "synthetic-tiny, fused, detail stream",
            model(tiny, **detail),
            full,
            **slow,
        ),
        # Decoders on the same encoder.
        "decoder_unet": Row("decoders", "`unet`", model(compact), 300, curves=True),
        "decoder_progressive": Row(
            "decoders", "`progressive`", model(compact, decoder_type="progressive"), 300, curves=True
        ),
        "decoder_mask_transformer": Row(
            "decoders",
            "`mask_transformer`",
            model(compact, decoder_type="mask_transformer", **transformer),
            300,
            lr=2e-3,
            curves=True,
        ),
        "decoder_curve": Row(
            "decoders",
            "`curve`",
            model(compact, decoder_type="curve", decoder_channels=[96, 64, 48], **transformer),
            300,
            lr=2e-3,
            curves=True,
        ),
        "decoder_no_context": Row(
            "decoders",
            "`unet` without self-attention",
            model(compact, context_num_layers=0),
            300,
            curves=True,
        ),
        "decoder_stride_4": Row(
            "decoders",
            "`unet`, logits at stride 4",
            model(compact, decoder_channels=[96, 64, 48]),
            300,
            curves=True,
        ),
    }
    # Losses, on compact.
    losses: dict[str, tuple[str, dict[str, Any]]] = {
        "none": ("Dice + BCE, foreground 4 (the preset)", {}),
        "foreground_1": ("foreground 1", {"foreground_weight": 1.0}),
        "cldice": ("+ 0.5 clDice", {"cldice_weight": 0.5}),
        "skeleton_recall": ("+ 0.5 skeleton recall", {"skeleton_recall_weight": 0.5}),
        "boundary": ("+ 1 boundary", {"boundary_weight": 1.0}),
        "focal_tversky": ("focal Tversky for Dice", {"dice_weight": 0.0, "focal_tversky_weight": 1.0}),
        "deep_supervision": ("+ 0.4 deep supervision", {"deep_supervision_weight": 0.4}),
        "softening": ("labels softened by 1 px", {"label_softening_px": 1.0}),
    }
    for name, (title, overrides) in losses.items():
        rows[f"loss_{name}"] = Row("losses", title, model(compact, **overrides), 200)
    rows["loss_balanced"] = Row("losses", "frames by landmark", model(compact), 200, balance=True)
    rows["loss_average"] = Row("losses", "moving average of weights", model(compact), 200, average=True)
    # Depth.
    geometry = {"dice_weight": 0.0, "bce_weight": 0.0, "depth_target": "both", "depth_target_weight": 1.0}
    rows |= {
        "depth_none": Row("depth", "compact, RGB", model(compact)),
        "oracle_compact": Row(
            "depth",
            "compact, true depth as a channel",
            lambda _: WithDepthChannel(compact()),
            channel="true",
        ),
        "oracle_compact_like_network": Row(
            "depth",
            "compact, true depth blurred and with errors",
            lambda _: WithDepthChannel(compact()),
            channel="like_network",
        ),
        "depth_none_segresnet": Row("depth", "SegResNet, RGB", peer(segresnet)),
        "oracle_segresnet": Row(
            "depth",
            "SegResNet, true depth as a channel",
            peer(partial(segresnet, 4)),
            channel="true",
        ),
        "target_depth": Row("depth", "compact, learns depth too", model(compact, depth_target="depth")),
        "target_both": Row(
            "depth", "compact, learns depth and occlusion edges too", model(compact, depth_target="both")
        ),
        "target_feedback": Row(
            "depth",
            "compact, the same, fed back to the classifier",
            model(compact, depth_target="both", depth_feedback=True),
        ),
        "pretrained": Row(
            "depth network",
            "compact, depth and occlusion edges alone",
            model(compact, **geometry),
            400,
            domains=("other",),
        ),
        "early_predicted": Row(
            "depth",
            "compact, the depth network's depth as a channel",
            lambda runs: WithPredictedDepth(compact(), _depth_network(runs)),
        ),
    }
    for fusion, title in (
        ("cross_attention", "fused at stride 16 (depth asks)"),
        ("bidirectional", "fused at stride 16, both ways"),
        ("gated", "fused at every level, gated"),
    ):
        for frozen in (True, False):
            rows[f"fusion_{fusion}{'_frozen' if frozen else ''}"] = Row(
                "depth",
                f"compact + depth branch{', frozen' if frozen else ''}, {title}",
                partial(_with_depth_branch, fusion, frozen),
            )
    return rows


def _depth_network(runs: Path) -> nn.Module:
    folder = runs / "pretrained-0"
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: the row 'pretrained' has to run first")
    return LiverLandmarkForSemanticSegmentation.from_pretrained(folder, dtype=torch.float32)


def _with_depth_branch(fusion: str, frozen: bool, runs: Path) -> nn.Module:
    """Compact with a second encoder, which learned depth on other patients, fused."""
    template = compact().config
    fields = {
        name: getattr(template, name)
        for name in (
            "image_size",
            "decoder_type",
            "decoder_channels",
            "context_num_layers",
            "foreground_weight",
        )
    }
    _depth_network(runs)
    model = LiverLandmarkForSemanticSegmentation.from_vision_depth_pretrained(
        "efficientnet-lite0",
        runs / "pretrained-0",
        depth_image_size=template.image_size,
        fusion_type=fusion,
        **fields,
    )
    if frozen:
        model.depth_branch.encoder.requires_grad_(False)
    return model


ROWS = _rows()
GROUPS = ("networks", "decoders", "losses", "depth network", "depth")


# Training for a number of CPU seconds.


@dataclass(frozen=True)
class Data:
    """The sets, by domain; `other` is of patients that no test split knows, for depth alone."""

    paths: Mapping[str, Sequence[Path]]
    cache: dict[tuple[str, str], datasets.Dataset] = field(default_factory=dict)

    def rows(self, domain: str, split: str) -> datasets.Dataset:
        key = (domain, split)
        if key not in self.cache:
            parts = [load_landmark_dataset(path, split) for path in self.paths[domain]]
            self.cache[key] = datasets.concatenate_datasets(parts)
        return self.cache[key]


def train(row: Row, seed: int, data: Data, recipe: Recipe, runs: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network, and what its training took."""
    torch.manual_seed(seed)
    network = row.build(runs).to(memory_format=torch.channels_last).train()
    config = getattr(network, "config", None)
    wants_depth = row.channel is not None or getattr(config, "depth_target", "none") != "none"
    rows = datasets.concatenate_datasets([data.rows(domain, "train") for domain in row.domains])
    varied = row.augmentation or recipe.augmentation
    calm = Augmentation(varied.scaled(recipe.calm.strength), seed)
    frames = TrainingFrames(
        rows,
        Augmentation(varied, seed),
        DEFAULT_LANDMARKS,
        cache=True,
        with_depth=wants_depth,
    )
    weights = balancing_weights(rows) if row.balance else None
    order = FrameOrder(len(frames), recipe.batch_size, seed, weights=weights)
    decoder = getattr(network, "decoder", None)
    batches = iter(
        build_loader(
            frames,
            order,
            new_processor(),
            0,
            False,
            with_landmarks=getattr(decoder, "learns_curves", False),
        )
    )
    factor = row.encoder_lr_factor or recipe.optimizer.encoder_lr_factor
    groups = parameter_groups(network, recipe.optimizer.weight_decay, row.lr, factor)
    peaks = [group.get("lr", row.lr) for group in groups]
    optimizer = torch.optim.AdamW(
        groups, lr=row.lr, betas=recipe.optimizer.betas, eps=recipe.optimizer.eps, fused=True
    )
    average = build_average(network, _AVERAGE_DECAY) if row.average else None
    generator = torch.Generator().manual_seed(seed)
    multiple = 32
    losses: list[float] = []
    start = time.process_time()
    while (share := (time.process_time() - start) / row.seconds) < 1:
        factor = learning_rate_factor(
            int(share * _SCHEDULE_STEPS),
            _SCHEDULE_STEPS,
            round(recipe.schedule.warmup_fraction * _SCHEDULE_STEPS),
            recipe.schedule.min_lr / recipe.optimizer.lr,
        )
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        if share >= 1 - recipe.calm.fraction:
            frames.augmentation = calm
        batch = next(batches)
        if row.channel is not None:
            depth = depth_channel(batch.pop("depth_labels"), row.channel, generator)
            batch["pixel_values"] = torch.cat([batch["pixel_values"], depth], dim=1)
        if share < recipe.progressive.fraction:
            batch["pixel_values"] = shrunk(batch["pixel_values"], recipe.progressive.scale, multiple)
        batch["pixel_values"] = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
        loss = network(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if average is not None:
            average.update_parameters(network)
    if not math.isfinite(losses[-1]):
        raise FloatingPointError(f"the loss became {losses[-1]}")
    figures = {
        "seconds": row.seconds,
        "steps": len(losses),
        "loss": statistics.fmean(losses[-50:]),
        "million_parameters": sum(p.numel() for p in network.parameters()) / 1e6,
        "lr": row.lr,
    }
    return (network if average is None else average.module).eval(), figures


def new_processor() -> LiverLandmarkImageProcessor:
    """The preset's: every network sees the same frames."""
    return LiverLandmarkImageProcessor.from_pretrained(preset_folder("compact"))


class DepthProcessor:
    """A processor that adds the depth of the rows that it is called for, one after the other."""

    def __init__(self, processor: LiverLandmarkImageProcessor, rows: datasets.Dataset, kind: str) -> None:
        self.processor, self.kind = processor, kind
        self.generator = torch.Generator().manual_seed(0)
        self.post_process_semantic_segmentation = processor.post_process_semantic_segmentation
        self.depths: Iterator[Any] = (row["depth"] for row in rows.select_columns(["depth"]))

    def __call__(self, images: Sequence[Any], return_tensors: str) -> dict[str, Tensor]:
        pixels = self.processor(images=images, return_tensors=return_tensors)["pixel_values"]
        inverse = []
        for _ in images:
            depth = torch.from_numpy(np.asarray(next(self.depths), dtype=np.float32))
            plane = torch.where(depth > 0, 1 / depth.clamp_min(1), 0.0)
            size = pixels.shape[-2:]
            inverse.append(F.interpolate(plane[None, None], size=size, mode="nearest-exact")[0, 0])
        channel = depth_channel(torch.stack(inverse), self.kind, self.generator)
        return {"pixel_values": torch.cat([pixels, channel], dim=1)}


def score(network: nn.Module, row: Row, rows: datasets.Dataset) -> dict[str, Any]:
    """Pooled DSC and each landmark's on 1024², and the polylines' F1 where the row asks for it."""
    processor: Any = new_processor()
    if row.channel is not None:
        processor = DepthProcessor(processor, rows, row.channel)
    metrics = evaluate_model(network, processor, rows, distances=False).metrics
    figures = {"dsc": metrics["dsc"], "per_class": {n: metrics["per_class"][n]["dsc"] for n in NAMES}}
    if row.curves:
        figures["f1"] = curve_f1(network, processor, rows)
    return figures


def depth_score(network: nn.Module, rows: datasets.Dataset) -> dict[str, Any]:
    """The mean over frames of the correlation of predicted and true inverse depth."""
    processor, found = new_processor(), []
    for row in rows.select_columns(["image", "depth"]):
        with torch.no_grad():
            pixels = processor(images=row["image"], return_tensors="pt")["pixel_values"]
            predicted = network(pixels).predicted_depth[0]
        depth = np.asarray(row["depth"], dtype=np.float32)
        depth = cv2.resize(depth, predicted.shape[::-1], interpolation=cv2.INTER_NEAREST)
        known = depth > 0
        found.append(float(np.corrcoef(predicted.numpy()[known], 1 / depth[known])[0, 1]))
    return {"correlation": statistics.fmean(found)}


# Polylines without strokes: how much of each side lies near the other.


def curve_f1(
    network: nn.Module, processor: LiverLandmarkImageProcessor, rows: datasets.Dataset
) -> dict[str, float]:
    """Tolerance in px of a frame 1920 px wide -> the mean over landmarks of F1 over all frames.

    Curves of a decoder that gives them are taken as they are, of others traced from the mask at that size.
    Points lie a px apart; precision is the share of predicted ones with a true one within the tolerance,
    recall the share of true ones with a predicted one.
    """
    counts = {name: {tolerance: np.zeros(4) for tolerance in TOLERANCES_PX} for name in NAMES}
    for row in rows.select_columns(["image", "landmarks", "width", "height"]):
        scale = WIDTH / row["width"]
        size = (round(row["height"] * scale), WIDTH)
        inputs = processor(images=row["image"], return_tensors="pt")
        with torch.no_grad():
            outputs = network(**inputs)
        if getattr(outputs, "curve_points", None) is not None:
            [curves] = processor.post_process_curves(outputs, [size], id2label=DEFAULT_LANDMARKS.id2label)
            predicted = [(curve["category"], curve["points"].numpy()) for curve in curves]
        else:
            [mask] = processor.post_process_semantic_segmentation(outputs, [size])
            traced = trace_polylines(mask.numpy().astype(np.uint8))
            predicted = [(curve.category, curve.points) for curve in traced]
        for index, name in enumerate(NAMES):
            true = [
                (np.asarray(line["points"]) + 0.5) * scale - 0.5
                for line in row["landmarks"]
                if line["category"] == index
            ]
            found = [points for category, points in predicted if category == name]
            for tolerance in TOLERANCES_PX:
                counts[name][tolerance] += _near(found, true, tolerance)
    return {
        str(tolerance): statistics.fmean(_f1(counts[name][tolerance]) for name in NAMES)
        for tolerance in TOLERANCES_PX
    }


def _near(found: Sequence[np.ndarray], true: Sequence[np.ndarray], tolerance: float) -> np.ndarray:
    """[predicted points near a true one, predicted, true points near a predicted one, true]."""
    a, b = _dense(found), _dense(true)
    if not len(a) or not len(b):
        return np.array([0, len(a), 0, len(b)], dtype=float)
    near_a = (cKDTree(b).query(a, distance_upper_bound=tolerance)[0] <= tolerance).sum()
    near_b = (cKDTree(a).query(b, distance_upper_bound=tolerance)[0] <= tolerance).sum()
    return np.array([near_a, len(a), near_b, len(b)], dtype=float)


def _dense(lines: Sequence[np.ndarray]) -> np.ndarray:
    """(N, 2) points a px apart along polylines."""
    parts = [np.zeros((0, 2))]
    for line in lines:
        along = np.concatenate([[0], np.hypot(*np.diff(line, axis=0).T).cumsum()])
        places = np.linspace(0, along[-1], max(2, math.ceil(along[-1]) + 1))
        parts.append(np.stack([np.interp(places, along, line[:, axis]) for axis in (0, 1)], axis=1))
    return np.concatenate(parts)


def _f1(counts: np.ndarray) -> float:
    near_a, count_a, near_b, count_b = counts
    precision, recall = near_a / max(count_a, 1), near_b / max(count_b, 1)
    return 2 * precision * recall / max(precision + recall, 1e-9)


# The three commands.


def run_rows(names: Sequence[str], data: Data, output: Path) -> None:
    """Trains and scores what is not there yet; what another process is at is left to it."""
    runs = output / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    arguments = ["--config", "synthetic_compact", "--data.path", str(data.paths["a"][0])]
    recipe, _ = parse_recipe([*arguments, "--output_dir", str(output)])
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name in names:
        row = ROWS[name]
        for seed in row.seeds:
            path = runs / f"{name}-{seed}.json"
            try:
                with FileLock(path.with_suffix(".lock"), timeout=0):
                    if not path.is_file():
                        run_row(name, seed, data, recipe, path)
            except Timeout:
                continue
            except FileNotFoundError as error:
                print(f"{name}: {error}", file=sys.stderr)


def run_row(name: str, seed: int, data: Data, recipe: Recipe, path: Path) -> None:
    row = ROWS[name]
    before = time.process_time()
    network, figures = train(row, seed, data, recipe, path.parent)
    for domain in ("a", "b"):
        rows = data.rows(domain, "test")
        if row.group == "depth network":
            figures[domain] = depth_score(network, rows)
        else:
            figures[domain] = score(network, row, rows)
    if row.group == "depth network":
        network.save_pretrained(path.with_suffix(""))
    figures |= {"row": name, "seed": seed, "cpu_seconds": time.process_time() - before}
    write_json(path, figures | environment())
    print(json.dumps({k: v for k, v in figures.items() if not isinstance(v, dict)}), flush=True)


def time_inference(output: Path, rounds: int) -> None:
    """Milliseconds of a forward pass of one frame, one thread, networks in turn."""
    torch.set_num_threads(1)
    networks = {
        "compact": ours("compact"),
        "compact-large": ours("compact-large"),
        "SegResNet": Peer(segresnet(), 1.0),
        "synthetic-tiny": ours("synthetic-tiny"),
        "compact, progressive": ours("compact", decoder_type="progressive"),
    }
    times: dict[str, dict[str, float]] = {}
    for side in (256, 512, 1024):
        frame = torch.randn(1, 3, side, side).to(memory_format=torch.channels_last)
        found: dict[str, list[float]] = {title: [] for title in networks}
        for turn in range(rounds + 1):
            for title, network in networks.items():
                network.eval().to(memory_format=torch.channels_last)
                start = time.process_time()
                with torch.inference_mode():
                    network(frame)
                if turn:
                    found[title].append(1000 * (time.process_time() - start))
        for title, values in found.items():
            times.setdefault(title, {})[str(side)] = statistics.median(values)
    write_json(output / "inference.json", {"ms": times, "rounds": rounds, **environment()})


def interval(values: Sequence[float]) -> str:
    """The mean and, of three values or more, half of its 95 % interval by Student's t."""
    mean = f"{statistics.fmean(values):.3f}".removeprefix("0")
    if len(values) < 3:
        return mean
    quantiles = {3: 4.303, 4: 3.182, 5: 2.776}
    half = quantiles[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean} ± {half:.3f}".replace(" 0.", " .")


def report(output: Path) -> str:
    """Tables of all groups, from the runs that there are."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((output / "runs").glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        runs.setdefault(entry["row"], []).append(entry)
    parts = []
    for group in GROUPS:
        entries = {name: runs[name] for name, row in ROWS.items() if row.group == group and name in runs}
        if not entries:
            continue
        parts.append(f"## {group.capitalize()}\n\n{_table(group, entries)}")
    path = output / "inference.json"
    if path.is_file():
        times = json.loads(path.read_text(encoding="utf-8"))["ms"]
        lines = [["network", "256²", "512²", "1024²"]]
        lines += [[title, *(f"{value:.0f}" for value in of.values())] for title, of in times.items()]
        parts.append(f"## Inference, CPU ms a frame, one thread\n\n{markdown_table(lines, '---:')}")
    every = [entry for entries in runs.values() for entry in entries]
    spent = sum(entry["cpu_seconds"] for entry in every)
    parts.append(f"{len(every)} runs, {spent / 3600:.1f} CPU hours. {_machine(every)}")
    return "\n\n".join(parts) + "\n"


def _machine(entries: Sequence[Mapping[str, Any]]) -> str:
    found = sorted({f"{entry['machine']}, torch {entry['torch']}" for entry in entries})
    return "; ".join(found)


def _table(group: str, entries: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    header = ["row", "s", "steps", "M parameters"]
    if group == "depth network":
        header += ["correlation on a", "on b"]
    else:
        header += ["a", "b", *(f"b {name}" for name in NAMES)]
    with_f1 = any("f1" in run["a"] for runs in entries.values() for run in runs)
    if with_f1:
        header += [f"F1 a at {tolerance} px" for tolerance in TOLERANCES_PX]
        header += [f"F1 b at {tolerance} px" for tolerance in TOLERANCES_PX]
    lines = [header]
    for name, runs in entries.items():
        first = runs[0]
        steps = round(statistics.fmean(run["steps"] for run in runs))
        line = [ROWS[name].title, str(first["seconds"]), str(steps), f"{first['million_parameters']:.1f}"]
        if group == "depth network":
            line += [interval([run[domain]["correlation"] for run in runs]) for domain in "ab"]
        else:
            line += [interval([run[domain]["dsc"] for run in runs]) for domain in "ab"]
            line += [
                interval([statistics.fmean(run["b"]["per_class"][landmark] for run in runs)])
                for landmark in NAMES
            ]
        if with_f1:
            line += [
                interval([run[domain]["f1"][str(tolerance)] for run in runs])
                for domain in "ab"
                for tolerance in TOLERANCES_PX
            ]
        lines.append(line)
    return markdown_table(lines, "---:")


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train and score the rows that are missing")
    training.add_argument("--data-a", type=Path, required=True, metavar="DIR")
    training.add_argument("--data-b", type=Path, required=True, metavar="DIR")
    training.add_argument(
        "--data-other",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="sets of other patients, for the row 'pretrained' alone",
    )
    chosen = training.add_mutually_exclusive_group()
    chosen.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    chosen.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="ROW", help="these alone")
    timing = commands.add_parser("time", help="measure inference")
    timing.add_argument("--rounds", type=positive_int, default=10)
    for command in (training, timing, commands.add_parser("report", help="write report.md")):
        command.add_argument("--output", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args(argv)
    quiet_libraries()
    datasets.disable_progress_bars()
    if arguments.command == "train":
        paths = {"a": [arguments.data_a], "b": [arguments.data_b]}
        if arguments.data_other is not None:
            paths["other"] = arguments.data_other
        names = arguments.rows or [name for name, row in ROWS.items() if row.group in arguments.groups]
        missing = [name for name in names if not set(ROWS[name].domains) <= set(paths)]
        if missing:
            parser.error(f"row {missing[0]} needs --data-other")
        run_rows(names, Data(paths), arguments.output)
    elif arguments.command == "time":
        arguments.output.mkdir(parents=True, exist_ok=True)
        time_inference(arguments.output, arguments.rounds)
    text = report(arguments.output) if (arguments.output / "runs").is_dir() else ""
    write_text(arguments.output / "report.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
