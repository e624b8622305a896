"""Losses: of strokes, by name and weight in the configuration, and of depth, learned alongside."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .landmarks_liver_landmark import IGNORE_INDEX

# Weights of missed and of invented pixels, and the exponent, of the focal Tversky loss.
_TVERSKY_MISSED, _TVERSKY_INVENTED, _TVERSKY_EXPONENT = 0.7, 0.3, 0.75
# Thinning steps of a soft skeleton, enough for strokes of 17 px; larger labels are shrunk to this side first,
# where L3D's strokes of 30 px on 1024² are 8 px wide.
_SKELETON_STEPS = 8
_SKELETON_SIDE_PX = 256
# Beyond this distance from a stroke, px of the labels, probability costs no more.
_FARTHEST_PX = 24


def landmark_loss(
    logits: Tensor,
    labels: Tensor,
    dice_weight: float = 1.0,
    bce_weight: float = 1.0,
    foreground_weight: float = 1.0,
    *,
    focal_tversky_weight: float = 0.0,
    cldice_weight: float = 0.0,
    skeleton_recall_weight: float = 0.0,
    boundary_weight: float = 0.0,
    label_softening_px: float = 0.0,
) -> Tensor:
    """A weighted sum of losses on one probability model: softmax over the classes.

    By default soft Dice + BCE (arXiv 2511.03163). All terms are computed per image and averaged over images,
    so that a batch, its parts on several processes and its accumulated parts give the same gradient.
    Computed in fp32 whatever the logits' dtype. Logits of another size than the labels are resized to them
    (bilinear): at a stride of 4 a thin stroke lies between the logits' pixels, and nearest-resized labels
    would lose it. Terms of a landmark that an image does not show are 0, but for the cross-entropy's.

    Args:
        logits: (B, K, h, w), class 0 is the background.
        labels: (B, H, W) integer class ids; 255 is ignored.
        dice_weight: Weight of 1 − Dice, averaged over the landmark classes that the image shows.
        bce_weight: Weight of the binary cross-entropy, one plane a class, averaged over planes and
            pixels.
        foreground_weight: Weight of landmark pixels in that average; background pixels weigh 1.
        focal_tversky_weight: Weight of the focal Tversky loss (arXiv 1810.07842): missed pixels weigh .7,
            invented ones .3.
        cldice_weight: Weight of the centerline Dice loss (arXiv 2003.07311): overlap of each side's soft
            skeleton with the other side's stroke.
        skeleton_recall_weight: Weight of 1 − the share of the truth's skeleton, three px wide, that is
            found (arXiv 2404.03010).
        boundary_weight: Weight of the boundary loss (arXiv 1812.07032): the mean over the image of
            probability times signed distance from the stroke, in shares of 24 px.
        label_softening_px: Standard deviation of a Gaussian, px of the labels, by which the
            cross-entropy's targets are blurred; 0: none.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes do not fit, or the labels are no integers or hold an id that is neither a
            class nor 255.
    """
    if labels.ndim != 3 or labels.shape[0] != logits.shape[0]:
        raise ValueError(f"labels must be (B, H, W) with B = {logits.shape[0]}, got {tuple(labels.shape)}")
    if labels.is_floating_point():
        raise ValueError(f"labels must be integer class ids, got {labels.dtype}")
    num_classes = logits.shape[1]
    logits = logits.float()
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    valid = labels != IGNORE_INDEX
    # Ids are checked here, not in the processor alone: an out-of-range id would otherwise surface as
    # an opaque indexing fault (on CUDA, asynchronously). Not while tracing: it reads data.
    if not torch.compiler.is_compiling():
        wrong = valid & ((labels < 0) | (labels >= num_classes))
        if bool(wrong.any()):
            found = int(labels[wrong][0])
            raise ValueError(f"labels hold the id {found}: ids are 0..{num_classes - 1}, 255 is ignored")
    target = F.one_hot(labels.masked_fill(~valid, 0).long(), num_classes).permute(0, 3, 1, 2)
    target = target.to(logits.dtype)
    valid = valid.to(logits.dtype)

    loss = logits.new_zeros(logits.shape[0])
    if bce_weight:
        soft = target
        if label_softening_px:
            # Ignored pixels are left out of the mean.
            share = blurred(valid[:, None], label_softening_px).clamp_min(1e-6)
            soft = blurred(target * valid[:, None], label_softening_px) / share
        loss = loss + bce_weight * _bce_loss(logits, target, soft, valid, foreground_weight)
    by_overlap = {
        _dice_loss: dice_weight,
        _focal_tversky_loss: focal_tversky_weight,
        _cldice_loss: cldice_weight,
        _skeleton_recall_loss: skeleton_recall_weight,
        _boundary_loss: boundary_weight,
    }
    if any(by_overlap.values()):
        probabilities = logits.softmax(dim=1)[:, 1:] * valid[:, None]
        truth = target[:, 1:] * valid[:, None]
        present = (truth.sum(dim=(2, 3)) > 0).to(logits.dtype)
        for term, weight in by_overlap.items():
            if weight:
                per_class = term(probabilities, truth) * present
                loss = loss + weight * per_class.sum(dim=1) / present.sum(dim=1).clamp_min(1.0)
    return loss.mean()


def _bce_loss(
    logits: Tensor, target: Tensor, soft: Tensor, valid: Tensor, foreground_weight: float
) -> Tensor:
    """(B,): weighted mean over planes and pixels of each class's cross-entropy against the rest."""
    num_classes = logits.shape[1]
    planes = []
    for index in range(num_classes):
        others = [other for other in range(num_classes) if other != index]
        # The logit of softmax's p against 1 − p, exactly: z − log Σ exp(other z).
        planes.append(logits[:, index] - logits[:, others].logsumexp(dim=1))
    cross_entropy = F.binary_cross_entropy_with_logits(torch.stack(planes, dim=1), soft, reduction="none")
    weight = valid * (1 + (foreground_weight - 1) * (1 - target[:, 0]))
    return (cross_entropy.mean(dim=1) * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp_min(1.0)


# Losses of one image and landmark: probabilities and truth (B, K - 1, H, W), ignored pixels 0 in both, to
# (B, K - 1). Those of landmarks that an image does not show are left out by the caller.


def _dice_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    intersection = (probabilities * truth).sum(dim=(2, 3))
    total = probabilities.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))
    # Where a class is present its truth keeps `total` above 0.
    return 1 - 2 * intersection / total.clamp_min(1.0)


def _focal_tversky_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    found = (probabilities * truth).sum(dim=(2, 3))
    missed = ((1 - probabilities) * truth).sum(dim=(2, 3))
    invented = (probabilities * (1 - truth)).sum(dim=(2, 3))
    index = found / (found + _TVERSKY_MISSED * missed + _TVERSKY_INVENTED * invented).clamp_min(1.0)
    # The power has no finite slope at 0, where nothing is left to learn.
    return (1 - index).clamp_min(1e-6) ** _TVERSKY_EXPONENT


def _cldice_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    probabilities, truth = _shrunk(probabilities), _shrunk(truth)
    found, true = soft_skeleton(probabilities), soft_skeleton(truth)
    precision = (found * truth).sum(dim=(2, 3)) / found.sum(dim=(2, 3)).clamp_min(1e-6)
    recall = (true * probabilities).sum(dim=(2, 3)) / true.sum(dim=(2, 3)).clamp_min(1e-6)
    return 1 - 2 * precision * recall / (precision + recall).clamp_min(1e-6)


def _skeleton_recall_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    probabilities, truth = _shrunk(probabilities), _shrunk(truth)
    with torch.no_grad():
        tube = F.max_pool2d(soft_skeleton(truth), 3, stride=1, padding=1) * truth
    return 1 - (probabilities * tube).sum(dim=(2, 3)) / tube.sum(dim=(2, 3)).clamp_min(1e-6)


def _boundary_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    with torch.no_grad():
        distance = (distance_px(truth) - distance_px(1 - truth)) / _FARTHEST_PX
    return (probabilities * distance).mean(dim=(2, 3))


# What they are made of.


def _shrunk(planes: Tensor) -> Tensor:
    """Planes at a whole part of their size, so that no side is much above `_SKELETON_SIDE_PX`."""
    factor = round(max(planes.shape[-2:]) / _SKELETON_SIDE_PX)
    return F.avg_pool2d(planes, factor, ceil_mode=True) if factor > 1 else planes


def blurred(planes: Tensor, sigma_px: float) -> Tensor:
    """(B, K, H, W) planes under a Gaussian; at the border the outermost pixels go on."""
    if sigma_px == 0:
        return planes
    radius = max(1, math.ceil(3 * sigma_px))
    offsets = torch.arange(-radius, radius + 1, dtype=planes.dtype, device=planes.device)
    kernel = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(planes.shape[1], 1, -1)
    for shape, padding in (((-1, 1), (0, 0, radius, radius)), ((1, -1), (radius, radius, 0, 0))):
        weight = kernel.reshape(planes.shape[1], 1, *shape)
        planes = F.conv2d(F.pad(planes, padding, mode="replicate"), weight, groups=planes.shape[1])
    return planes


def soft_skeleton(planes: Tensor) -> Tensor:
    """(B, K, H, W) in 0..1 -> the same, 1 near the middle of strokes (arXiv 2003.07311, algorithm 1).

    What an erosion leaves and the dilation of a further one does not bring back, at every width.
    """

    def eroded(values: Tensor) -> Tensor:
        down = -F.max_pool2d(-values, (3, 1), stride=1, padding=(1, 0))
        return torch.minimum(down, -F.max_pool2d(-values, (1, 3), stride=1, padding=(0, 1)))

    def thin_parts(values: Tensor) -> Tensor:
        return F.relu(values - F.max_pool2d(eroded(values), 3, stride=1, padding=1))

    skeleton = thin_parts(planes)
    for _ in range(_SKELETON_STEPS):
        planes = eroded(planes)
        part = thin_parts(planes)
        skeleton = skeleton + F.relu(part - skeleton * part)
    return skeleton


def distance_px(strokes: Tensor) -> Tensor:
    """(B, K, H, W) of 0 and 1 -> steps from each pixel to the nearest stroke, at most 24.

    Counted by growing the strokes, by a cross and a square in turn: an octagon in place of the circle.
    """
    grown, distance = strokes, 1 - strokes
    for step in range(1, _FARTHEST_PX):
        if step % 2:
            up = F.max_pool2d(grown, (3, 1), stride=1, padding=(1, 0))
            grown = torch.maximum(up, F.max_pool2d(grown, (1, 3), stride=1, padding=(0, 1)))
        else:
            grown = F.max_pool2d(grown, 3, stride=1, padding=1)
        distance = distance + (1 - grown)
    return distance


# Depth, learned alongside.

# Neighbors whose inverse depths differ by more than this share of the smaller lie on two surfaces.
_EDGE_RATIO = 0.06
_GRADIENT_SCALES = 4


def inverse_depth_loss(prediction: Tensor, depth_labels: Tensor) -> Tensor:
    """How far a prediction is from inverse depth, up to scale and shift, and its gradients from the truth's.

    Both sides are aligned to median 0 and mean absolute deviation 1 in each frame; then absolute errors and,
    at four scales, absolute errors of gradients, which sharpen edges (MiDaS, arXiv 1907.01341; Depth
    Anything, arXiv 2401.10891).

    Args:
        prediction: (B, h, w).
        depth_labels: (B, H, W) inverse depth in any unit; 0 where it is not known.

    Returns:
        A scalar; 0 with a gradient of 0 for frames without a known pixel.
    """
    truth = F.interpolate(depth_labels[:, None].float(), size=prediction.shape[-2:], mode="nearest-exact")[
        :, 0
    ]
    known = (truth > 0).float()
    difference = (_aligned(prediction.float(), known) - _aligned(truth, known)) * known
    count = known.sum(dim=(1, 2)).clamp_min(1.0)
    loss = difference.abs().sum(dim=(1, 2)) / count
    for scale in range(_GRADIENT_SCALES):
        step = 2**scale
        error, valid = difference[:, ::step, ::step], known[:, ::step, ::step]
        for axis in (1, 2):
            size = error.shape[axis] - 1
            if size < 1:
                continue
            both = valid.narrow(axis, 0, size) * valid.narrow(axis, 1, size)
            change = (error.narrow(axis, 1, size) - error.narrow(axis, 0, size)).abs() * both
            loss = loss + change.sum(dim=(1, 2)) / both.sum(dim=(1, 2)).clamp_min(1.0) / _GRADIENT_SCALES
    return loss.mean()


def _aligned(values: Tensor, known: Tensor) -> Tensor:
    """Values less their median over known pixels, in units of the mean absolute deviation from it."""
    flat, mask = values.flatten(1), known.flatten(1) > 0
    # Of unknown pixels only: nanmedian leaves them out, and there may be none other.
    median = flat.detach().masked_fill(~mask, math.nan).nanmedian(dim=1, keepdim=True).values.nan_to_num()
    centered = (flat - median) * mask
    deviation = centered.abs().sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp_min(1)
    return (centered / deviation.clamp_min(1e-6)).unflatten(1, values.shape[1:])


def occlusion_edges(depth_labels: Tensor) -> Tensor:
    """(B, H, W) inverse depth, 0 unknown -> (B, H, W) bool: pixels beside which another surface goes on."""
    edges = torch.zeros_like(depth_labels, dtype=torch.bool)
    for axis in (1, 2):
        size = depth_labels.shape[axis] - 1
        before, after = depth_labels.narrow(axis, 0, size), depth_labels.narrow(axis, 1, size)
        nearer, farther = torch.maximum(before, after), torch.minimum(before, after)
        jumps = (farther > 0) & (nearer > (1 + _EDGE_RATIO) * farther)
        edges.narrow(axis, 0, size).logical_or_(jumps)
        edges.narrow(axis, 1, size).logical_or_(jumps)
    return edges


def occlusion_edge_loss(logits: Tensor, depth_labels: Tensor) -> Tensor:
    """Soft Dice + BCE of occlusion edges.

    Args:
        logits: (B, h, w).
        depth_labels: (B, H, W) inverse depth; 0 where it is not known.
    """
    edges = occlusion_edges(depth_labels)[:, None].float()
    # Edges are a pixel or two wide: every logit whose px hold one is on it.
    truth = F.adaptive_max_pool2d(edges, logits.shape[-2:])[:, 0]
    known = F.adaptive_max_pool2d((depth_labels[:, None] > 0).float(), logits.shape[-2:])[:, 0]
    logits = logits.float()
    probability = logits.sigmoid() * known
    overlap = 2 * (probability * truth).sum(dim=(1, 2))
    dice = 1 - (overlap + 1) / ((probability + truth).sum(dim=(1, 2)) + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * known
    return (dice + entropy.sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp_min(1.0)).mean()


__all__ = [
    "blurred",
    "distance_px",
    "inverse_depth_loss",
    "landmark_loss",
    "occlusion_edge_loss",
    "occlusion_edges",
    "soft_skeleton",
]
