"""Connected pieces of a class, and the paths that thinning finds through them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .pixel_graph import NoisyMaskError
from .skeleton import SkeletonPath, skeleton_paths
from .stroke_plane import StrokePlane

# Thinning looks at strokes about this many px wide: it need only find which pieces there are.
_THINNED_WIDTH_PX = 8.0
# Holes smaller than this share of a square of the stroke's width are flaws of the mask, not loops.
_HOLE = 0.5
# Fewer connected pixels are a flaw of the mask.
_SPECK_AREA = 9
# More pieces of one class, specks left aside, are noise: each takes up to a millisecond.
MOST_PIECES = 1000


@dataclass(frozen=True)
class Piece:
    """A connected piece of a class.

    Attributes:
        pixels: (h, w) uint8, 255 on the piece, in its bounding box.
        corner: (x, y) px of the mask at the box's first pixel.
        perimeter_px: Length of its edge, that of its holes too.
    """

    pixels: np.ndarray
    corner: tuple[int, int]
    perimeter_px: float


def find_pieces(plane: StrokePlane) -> Iterator[Piece]:
    """Pieces of at least 9 pixels, which are neighbours also across a corner.

    Raises:
        NoisyMaskError: more than `MOST_PIECES`.
    """
    # A contour each, and one for each of its holes: much faster than labelling all pixels.
    contours, hierarchy = cv2.findContours(plane.inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    perimeters: dict[int, float] = defaultdict(float)
    for index, contour in enumerate(contours):
        around = hierarchy[0, index, 3]
        perimeters[index if around < 0 else around] += cv2.arcLength(contour, True)
    windows = {index: cv2.boundingRect(contours[index]) for index in perimeters}
    windows = {index: box for index, box in windows.items() if box[2] * box[3] >= _SPECK_AREA}
    if len(windows) > MOST_PIECES:
        raise NoisyMaskError(
            f"the mask has {len(windows)} pieces of class {plane.class_id}, more than {MOST_PIECES}: noise"
        )
    for index, (left, top, width, height) in windows.items():
        pixels = np.zeros((height, width), np.uint8)
        cv2.drawContours(pixels, contours, index, 255, -1, 8, hierarchy, 1, (-left, -top))
        if cv2.countNonZero(pixels) >= _SPECK_AREA:
            yield Piece(pixels, (plane.corner[0] + left, plane.corner[1] + top), perimeters[index])


def thinned_paths(piece: Piece) -> tuple[list[SkeletonPath], float]:
    """Paths through a piece's skeleton in px of the frame, and about how wide its strokes are."""
    # Thinned at a size at which that is fast. A ragged edge makes a stroke seem narrower than it is.
    width_px = 2.0 * cv2.countNonZero(piece.pixels) / max(piece.perimeter_px, 1.0)
    factor, small = 0, piece.pixels
    while (better := max(1, round(width_px / _THINNED_WIDTH_PX))) > factor:
        factor = better
        small = _reduced(piece.pixels, factor)
        distance = cv2.distanceTransform(small, cv2.DIST_L2, cv2.DIST_MASK_5)
        # Across a stroke the distance to its edge rises evenly to half its width: the mean is a quarter.
        pixels = max(1, cv2.countNonZero(small))
        width_px = max(1.0, factor * (4.0 * float(cv2.sumElems(distance)[0]) / pixels - 2.0))
    while factor > 1 and (not small.any() or _in_parts(small, width_px / factor)):
        # The piece, or what connects it, is too narrow to be seen at this size.
        factor //= 2
        small = _reduced(piece.pixels, factor)
    small = _fill_flaws(small, _HOLE * (width_px / factor) ** 2)
    origin = np.array(piece.corner) - factor
    paths = skeleton_paths(small > 0)
    return [replace(path, points=(path.points + 0.5) * factor - 0.5 + origin) for path in paths], width_px


def _in_parts(small: np.ndarray, width_px: float) -> bool:
    """Whether more than one connected piece is longer than strokes are wide."""
    contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return sum(max(cv2.boundingRect(contour)[2:]) > width_px for contour in contours) > 1


def _reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    """A plane by a whole number smaller, 255 where at least half of a block is."""
    height, width = pixels.shape
    # At least one row and column of background around the strokes, and whole blocks.
    bottom, right = factor + -height % factor, factor + -width % factor
    padded = cv2.copyMakeBorder(pixels, factor, bottom, factor, right, cv2.BORDER_CONSTANT, value=0)
    size = (padded.shape[1] // factor, padded.shape[0] // factor)
    return cv2.inRange(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), 128, 255)


def _fill_flaws(small: np.ndarray, largest: float) -> np.ndarray:
    """Fills holes of at most that many pixels."""
    contours, hierarchy = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours or hierarchy[0, :, 3].max() < 0:
        return small
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(cv2.bitwise_not(small), connectivity=4)
    flaws = boxes[:, cv2.CC_STAT_AREA] <= largest
    flaws[0] = False
    return np.where(flaws[labels], np.uint8(255), small)


def axis_of(piece: Piece) -> np.ndarray:
    """(2, 2) px of the frame: a short line through a piece's centre along its longest extent."""
    pixels = np.argwhere(piece.pixels)[:, ::-1] + np.array(piece.corner)
    middle = pixels.mean(axis=0)
    _, _, axes = np.linalg.svd(pixels - middle, full_matrices=False)
    return np.stack([middle - axes[0], middle + axes[0]])
