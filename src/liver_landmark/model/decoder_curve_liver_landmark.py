"""The decoder `curve`: a set of queries, each of which gives one curve as ordered points, and its class.

A query looks over the whole frame and proposes a cubic Bézier curve; its points then look at what lies around
each of them and move, layer by layer. Logits are drawn from the curves: how near a pixel is to one, and how
sure its class is. Curves as the output of a landmark network, refined from Bézier proposals: BCRNet
(arXiv 2506.15279); attention at sampled places: Deformable DETR (arXiv 2010.04159); a set matched to the
truth: DETR (arXiv 2005.12872).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_liver_landmark import LiverLandmarkConfig
from .decoders_liver_landmark import (
    Curves,
    Decoder,
    DecoderOutput,
    FeedForward,
    OneRowPerClass,
    TokenAttention,
    UNetDecoder,
    encode_places,
    position_encoding,
)

# Places around each point of a curve that a layer looks at.
_SAMPLES = 4
# Of the terms of the matching and of the loss.
_CLASS_WEIGHT, _POINT_WEIGHT, _DIRECTION_WEIGHT = 1.0, 5.0, 0.5
# Most queries find nothing: without this the loss would mostly say so.
_NO_CURVE_WEIGHT = 0.2
# Where the drawing of logits starts: strokes as L3D's, 30 px on 1024, and edges over a sixth of that.
_HALF_WIDTH, _SOFTNESS = 15 / 1024, 5 / 1024
_FARTHEST_LOGIT = 12.0


class CurveClasses(OneRowPerClass, nn.Linear):
    """Logits of a query's class; 0 is no curve."""


class CurveLayer(GradientCheckpointingLayer):
    """Points look around themselves, along their curve and at the other curves, and move."""

    def __init__(self, channels: int, num_heads: int, num_levels: int) -> None:
        super().__init__()
        self.offsets = nn.Linear(channels, num_levels * _SAMPLES * 2)
        self.weights = nn.Linear(channels, num_levels * _SAMPLES)
        self.value = nn.Linear(channels, channels)
        self.sample_norm = nn.LayerNorm(channels)
        self.along_norm = nn.LayerNorm(channels)
        self.along = TokenAttention(channels, num_heads)
        self.between_norm = nn.LayerNorm(channels)
        self.between = TokenAttention(channels, num_heads)
        self.forward_norm = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, tokens: Tensor, points: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """tokens (B, Q, N, C), points (B, Q, N, 2), levels (B, C, h, w) each -> tokens."""
        tokens = tokens + self.value(self._sampled(self.sample_norm(tokens), points, levels))
        batch = tokens.shape[0]
        along = self.along_norm(tokens).flatten(0, 1)
        tokens = tokens + self.along(along, along).unflatten(0, (batch, -1))
        curves = self.between_norm(tokens).mean(dim=2)
        tokens = tokens + self.between(curves, curves)[:, :, None]
        return tokens + self.feed_forward(self.forward_norm(tokens))

    def _sampled(self, tokens: Tensor, points: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """A weighted mean of the levels' features at learned places around each point."""
        offsets = self.offsets(tokens).unflatten(-1, (len(levels), _SAMPLES, 2))
        weights = self.weights(tokens).softmax(dim=-1).unflatten(-1, (len(levels), _SAMPLES))
        total = torch.zeros_like(tokens)
        for number, level in enumerate(levels):
            # In px of the level, so that an offset of 1 means the same on each.
            size = points.new_tensor(level.shape[:1:-1])
            places = points[:, :, :, None] + offsets[:, :, :, number].float() / size
            grid = (2 * places - 1).flatten(1, 2)
            # In float32: half precision would round places to several px.
            found = F.grid_sample(
                level.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
            )
            found = found.permute(0, 2, 3, 1).unflatten(1, tokens.shape[1:3]).to(tokens.dtype)
            total = total + (found * weights[:, :, :, number, :, None]).sum(dim=3)
        return total


class CurveDecoder(Decoder):
    """Curves from the stages of `unet` as features, and logits drawn from them."""

    learns_curves = True

    def __init__(self, config: LiverLandmarkConfig, channels: Mapping[int, int]) -> None:
        super().__init__()
        width = config.decoder_hidden_size
        self.pixels = UNetDecoder(config, channels)
        # Its classifier is not needed: logits come from the curves.
        del self.pixels.classifier, self.pixels.auxiliary_classifiers
        self.out_channels = self.pixels.out_channels
        self.num_points = config.num_curve_points
        self.levels = nn.ModuleList(nn.Conv2d(stage, width, 1) for stage in config.decoder_channels)
        self.queries = nn.Embedding(config.num_curves, width)
        self.look_norm = nn.LayerNorm(width)
        self.look = TokenAttention(width, config.decoder_num_heads)
        self.agree_norm = nn.LayerNorm(width)
        self.agree = TokenAttention(width, config.decoder_num_heads)
        self.propose_norm = nn.LayerNorm(width)
        self.propose = FeedForward(width, 8)
        # Where a query starts from: a line of its own somewhere in the frame.
        self.anchors = nn.Parameter(torch.empty(config.num_curves, 4, 2))
        self.layers = nn.ModuleList(
            CurveLayer(width, config.decoder_num_heads, len(self.levels))
            for _ in range(config.decoder_num_layers)
        )
        self.move_norm = nn.LayerNorm(width)
        self.move = nn.Linear(width, 2)
        self.classes = CurveClasses(width, config.num_labels)
        self.half_width = nn.Parameter(torch.empty(()))
        self.softness = nn.Parameter(torch.empty(()))

    @torch.no_grad()
    def init_weights(self) -> None:
        """Sets what has a meaning of its own; the model's initialization calls it."""
        count = len(self.anchors)
        # Lines that lie one below the other, each over half of the frame: every place is near to one.
        y = (torch.arange(count, dtype=torch.float32)[:, None] + 0.5) / count
        x = 0.25 + 0.5 * torch.arange(4) / 3
        lines = torch.stack([x.expand(count, -1), y.expand(-1, 4)], dim=-1)
        init.copy_(self.anchors, lines.logit(eps=1e-3))
        init.constant_(self.half_width, math.log(_HALF_WIDTH))
        init.constant_(self.softness, math.log(_SOFTNESS))

    def refine(self, fused: Tensor, pyramid: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        return self.pixels.refine(fused, pyramid)

    def predict(self, stages: tuple[Tensor, ...]) -> DecoderOutput:
        levels = [project(stage) for project, stage in zip(self.levels, stages, strict=True)]
        channels = levels[0].shape[1]
        memory = levels[0].flatten(2).transpose(1, 2)
        memory = memory + position_encoding(*levels[0].shape[-2:], channels, memory)
        queries = self.queries.weight.expand(memory.shape[0], -1, -1)
        queries = queries + self.look(self.look_norm(queries), memory)
        normed = self.agree_norm(queries)
        queries = queries + self.agree(normed, normed)
        controls = self.anchors + self.propose(self.propose_norm(queries)).unflatten(-1, (4, 2))
        points = bezier_points(controls.float().sigmoid(), self.num_points)
        tokens = queries[:, :, None].expand(-1, -1, self.num_points, -1)
        found = [Curves(points, self.classes(self.move_norm(queries)))]
        for layer in self.layers:
            tokens = layer(tokens + encode_places(points.detach(), channels).to(tokens.dtype), points, levels)
            normed = self.move_norm(tokens)
            points = (points.logit(eps=1e-4) + self.move(normed).float()).sigmoid()
            found.append(Curves(points, self.classes(normed.mean(dim=2))))
        logits = self.draw(found[-1], stages[-1].shape[-2:])
        return DecoderOutput(logits.to(stages[-1].dtype), curves=tuple(found))

    def draw(self, curves: Curves, size: Sequence[int]) -> Tensor:
        """(B, num_labels, *size) logits of the distance to the curves.

        A pixel is of a class as far as it lies within half a stroke's width of a curve and the curve is of
        the class: the smaller of both log odds, smoothly, and of all curves the largest. The background's
        is 0.
        """
        distance = distances_to_curves(curves.points, size)
        within = (self.half_width.exp() - distance) / self.softness.exp()
        within = within.clamp(-_FARTHEST_LOGIT, _FARTHEST_LOGIT)
        scores = curves.class_logits.float()
        odds = torch.stack(
            [
                scores[..., label]
                - torch.cat([scores[..., :label], scores[..., label + 1 :]], dim=-1).logsumexp(dim=-1)
                for label in range(1, scores.shape[-1])
            ],
            dim=2,
        )
        # (B, Q, K - 1, 1, 1) beside (B, Q, 1, h, w).
        both = -torch.logaddexp(-odds[..., None, None], -within[:, :, None])
        landmarks = both.amax(dim=1)
        return torch.cat([torch.zeros_like(landmarks[:, :1]), landmarks], dim=1)


def bezier_points(controls: Tensor, count: int) -> Tensor:
    """(…, 4, 2) control points -> (…, count, 2) points of the cubic Bézier curve, evenly in its parameter."""
    t = torch.linspace(0, 1, count, device=controls.device, dtype=controls.dtype)
    weights = torch.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], dim=-1)
    # No matrix product: autocast would round it, and a point near the border onto it.
    return (weights[:, :, None] * controls[..., None, :, :]).sum(dim=-2)


def distances_to_curves(points: Tensor, size: Sequence[int]) -> Tensor:
    """Distances of a map's pixels to polylines, as shares of the frame's width.

    Args:
        points: (B, Q, N, 2) shares of the frame's width and height.
        size: (h, w) of the map.

    Returns:
        (B, Q, h, w).
    """
    height, width = size
    scale = points.new_tensor([1.0, height / width])
    places = torch.stack(
        torch.meshgrid(
            (torch.arange(width, device=points.device) + 0.5) / width,
            (torch.arange(height, device=points.device) + 0.5) / height,
            indexing="xy",
        ),
        dim=-1,
    ).to(points.dtype)
    places, points = (places * scale).reshape(-1, 2), points * scale
    start, step = points[:, :, :-1], points.diff(dim=2)
    length = (step**2).sum(dim=-1).clamp_min(1e-12)
    # One segment at a time: all at once would hold a map for each.
    with torch.no_grad():
        nearest = torch.full((*points.shape[:2], len(places)), math.inf, device=points.device)
        chosen = torch.zeros_like(nearest, dtype=torch.long)
        for index in range(start.shape[2]):
            segment = start[:, :, index, None], step[:, :, index, None]
            squared = _squared_distance(*segment, length[:, :, index, None], places)
            closer = squared < nearest
            nearest = torch.where(closer, squared, nearest)
            chosen = torch.where(closer, index, chosen)
    # Again for the nearest segment alone, with its gradient.
    pick = chosen[..., None].expand(-1, -1, -1, 2)
    start, step = start.gather(2, pick), step.gather(2, pick)
    squared = _squared_distance(start, step, length.gather(2, chosen), places)
    return (squared + 1e-12).sqrt().unflatten(-1, (height, width))


def _squared_distance(start: Tensor, step: Tensor, length: Tensor, places: Tensor) -> Tensor:
    offset = places - start
    share = ((offset * step).sum(dim=-1) / length).clamp(0, 1)
    return ((offset - share[..., None] * step) ** 2).sum(dim=-1)


# The truth that curves are matched to, and the loss.

# A landmark of a frame, as `forward` takes it: {"category": class id, "points": (N, 2)}.
FrameLandmarks = Sequence[Mapping[str, Any]]


def curve_loss(
    found: Sequence[Curves], landmarks: Sequence[FrameLandmarks], height: int, width: int
) -> Tensor:
    """The mean over frames and layers of what a set of curves is off by.

    In each frame and layer, curves are matched one to one to the true ones at the least cost of class,
    distance and direction. A matched curve is to have the class, the points and the directions of its
    partner, in the order that fits better; the others are to be none.

    Args:
        found: What each layer found.
        landmarks: Of each frame, {"category": class id, "points": (N, 2)} in shares of width and height.
        height: Of the frame; only its ratio to the width matters.
        width: Of the frame.

    Raises:
        ValueError: a category that is no landmark's id, or points that are not finite or not (N, 2).
    """
    num_points = found[0].points.shape[2]
    scale = found[0].points.new_tensor([1.0, height / width])
    total = found[0].points.new_zeros(())
    for frame, lines in enumerate(landmarks):
        _check_landmarks(lines, frame, found[0].class_logits.shape[-1])
        true_points, true_classes = _targets(lines, num_points, scale)
        for curves in found:
            total = total + _frame_loss(
                curves.points[frame] * scale, curves.class_logits[frame].float(), true_points, true_classes
            )
    return total / (len(found) * max(1, len(landmarks)))


def _check_landmarks(lines: FrameLandmarks, frame: int, num_classes: int) -> None:
    for number, line in enumerate(lines):
        category, points = line["category"], torch.as_tensor(line["points"])
        if not 0 < int(category) < num_classes:
            raise ValueError(
                f"landmarks[{frame}][{number}]: category must be one of 1..{num_classes - 1}, got {category}"
            )
        if points.ndim != 2 or points.shape[1] != 2 or not bool(torch.isfinite(points).all()):
            raise ValueError(
                f"landmarks[{frame}][{number}]: points must be (N, 2) and finite, got {tuple(points.shape)}"
            )


def _targets(lines: FrameLandmarks, num_points: int, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(M, num_points, 2) points in shares of the width, (M,) class ids."""
    kept = [line for line in lines if len(line["points"]) >= 2]
    points = [
        resample(torch.as_tensor(line["points"], dtype=torch.float32), num_points).to(scale.device) * scale
        for line in kept
    ]
    classes = torch.tensor([int(line["category"]) for line in kept], dtype=torch.long, device=scale.device)
    return torch.stack(points) if points else scale.new_zeros(0, num_points, 2), classes


def resample(points: Tensor, count: int) -> Tensor:
    """(N, 2) polyline -> (count, 2) points evenly along it."""
    lengths = points.diff(dim=0).norm(dim=-1)
    along = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    wanted = torch.linspace(0, 1, count, dtype=along.dtype) * along[-1]
    segment = torch.searchsorted(along, wanted, right=True).clamp(1, len(points) - 1)
    share = (wanted - along[segment - 1]) / (along[segment] - along[segment - 1]).clamp_min(1e-12)
    return torch.lerp(points[segment - 1], points[segment], share.clamp(0, 1)[:, None])


def _frame_loss(points: Tensor, class_logits: Tensor, true_points: Tensor, true_classes: Tensor) -> Tensor:
    """points (Q, N, 2), class_logits (Q, K), true_points (M, N, 2), true_classes (M,) -> a scalar."""
    classes = class_logits.new_zeros(len(points), dtype=torch.long)
    geometry = points.new_zeros(())
    if len(true_classes):
        distance, direction = _differences(points, true_points)
        shape_cost = _POINT_WEIGHT * distance + _DIRECTION_WEIGHT * direction
        # Either end may be the first: annotators begin where they like.
        shape_cost = shape_cost.amin(dim=0)
        cost = shape_cost - _CLASS_WEIGHT * class_logits.softmax(dim=-1)[:, true_classes]
        rows, columns = match(cost)
        classes[rows] = true_classes[columns]
        geometry = shape_cost[rows, columns].mean()
    weight = class_logits.new_ones(class_logits.shape[-1])
    weight[0] = _NO_CURVE_WEIGHT
    return _CLASS_WEIGHT * F.cross_entropy(class_logits, classes, weight) + geometry


def _differences(points: Tensor, true_points: Tensor) -> tuple[Tensor, Tensor]:
    """(2, Q, M) mean distances of points and 1 - cosines of segments, in the true order and in reverse."""
    distances, directions = [], []
    for true in (true_points, true_points.flip(1)):
        distances.append((points[:, None] - true[None]).norm(dim=-1).mean(dim=-1))
        cosine = F.cosine_similarity(points.diff(dim=1)[:, None], true.diff(dim=1)[None], dim=-1, eps=1e-6)
        directions.append(1 - cosine.mean(dim=-1))
    return torch.stack(distances), torch.stack(directions)


def match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The rows and columns of a one-to-one assignment of least cost."""
    try:
        # Here, and tried, so that the model loads and predicts without it.
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("training the decoder curve needs scipy: pip install scipy") from error

    # Where a step has overflowed, any match will do: its loss is not finite either.
    rows, columns = linear_sum_assignment(cost.detach().float().nan_to_num(1e6).cpu().numpy())
    return tuple(torch.from_numpy(index).to(cost.device) for index in (rows, columns))


# Curves of a mask, for data that has no polylines.

_SHORTEST_CURVE_PX = 6


def curves_of_labels(labels: Tensor, num_classes: int) -> list[list[dict[str, Any]]]:
    """(B, H, W) class ids -> the curves of each frame, as `landmarks` would hold them.

    A connected piece of a class is taken for one curve, from a pixel that is farthest within the piece from
    another to the one that is farthest from it; its points are the means of the pixels at each distance.
    """
    frames = []
    for mask in labels.cpu().numpy():
        lines: list[dict[str, Any]] = []
        for class_id in range(1, num_classes):
            for points in _stroke_curves(mask == class_id):
                shares = (points + 0.5) / np.array(mask.shape[::-1])
                lines.append({"category": class_id, "points": torch.from_numpy(shares).float()})
        frames.append(lines)
    return frames


def _stroke_curves(plane: np.ndarray) -> list[np.ndarray]:
    """(N, 2) x, y px of each piece of a mask that is longer than it is wide."""
    remaining = set(map(tuple, np.argwhere(plane).tolist()))
    curves = []
    while remaining:
        piece, _ = _flood(next(iter(remaining)), remaining)
        remaining -= set(piece)
        first = piece[-1]
        ordered, steps = _flood(first, set(piece))
        if steps[-1] < _SHORTEST_CURVE_PX:
            continue
        rows_columns, steps = np.array(ordered, dtype=np.float64), np.array(steps)
        means = [rows_columns[steps == step].mean(axis=0) for step in range(steps[-1] + 1)]
        curves.append(np.array(means)[:, ::-1])
    return curves


def _flood(start: tuple[int, int], pixels: set[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Pixels that are connected with `start`, by their distance from it in steps, and that distance."""
    order, steps, seen = [start], [0], {start}
    # The list grows while it is walked along: what is found is looked at in turn.
    for index, (row, column) in enumerate(order):
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                neighbor = (row + down, column + right)
                if neighbor in pixels and neighbor not in seen:
                    seen.add(neighbor)
                    order.append(neighbor)
                    steps.append(steps[index] + 1)
    return order, steps


__all__ = ["CurveDecoder", "curve_loss", "curves_of_labels", "distances_to_curves", "resample"]
