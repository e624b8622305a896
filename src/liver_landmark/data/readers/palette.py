"""Colour masks: which colour means which landmark, and masks of class ids from pictures of strokes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ...model.landmarks_liver_landmark import BACKGROUND, LABEL2ID, LANDMARK_NAMES, LANDMARKS

# How far a hand-drawn colour may lie from the line between black and its palette colour, RGB distance: what
# JPEG and painting programs make of a stroke lies within, the colours of other palettes 180 and more away.
_BAND = 110.0
# Below this share of a palette colour a pixel is background: the middle of an anti-aliased edge.
_EDGE = 0.5
# Dimmer pixels fit any colour and none.
_DIM = 64
# More drawn pixels than this share of no palette colour: another palette's mask.
_MAX_STRANGE_SHARE = 0.05
# More of a frame than this is not covered by strokes on black.
_MAX_DRAWN_SHARE = 0.5
# A person draws a handful of strokes; tracing takes milliseconds for each piece, minutes for noise.
_MAX_PIECES = 300
# Opening takes corners and specks off. It takes strokes if it takes most of a class, and more than this
# share of all that is drawn: JPEG's specks of other colours along a stroke's edge are less.
_MAX_OPENED_SHARE = 0.05
_SIDE_PX = 3


class PaletteError(ValueError):
    """A mask that does not fit its palette, or a palette that cannot be one; the message is one line."""


@dataclass(frozen=True)
class Palette:
    """The colours of a kind of masks, strokes on black.

    Attributes:
        name: For messages.
        colors: (RGB, class id) of each colour.
        exact: Any other colour than these and black is an error; else masks are drawn by hand: edges may
            be anti-aliased and colours a little off.
    """

    name: str
    colors: tuple[tuple[tuple[int, int, int], int], ...]
    exact: bool = False


_RED, _GREEN, _BLUE, _YELLOW, _WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)

PALETTES: dict[str, Palette] = {
    palette.name: palette
    for palette in (
        # LLSD's recoloured masks: this project's colours.
        Palette("masks_gt", tuple((landmark.color, landmark.id) for landmark in LANDMARKS), exact=True),
        # LLSD as drawn by hand: red is the ligament here.
        Palette(
            "masks_original",
            (
                (_WHITE, LABEL2ID["silhouette"]),
                (_RED, LABEL2ID["ligament"]),
                (_BLUE, LABEL2ID["ridge"]),
                (_GREEN, LABEL2ID["ridge"]),
            ),
        ),
        Palette(
            "p2ilf",
            (
                (_RED, LABEL2ID["ridge"]),
                (_YELLOW, LABEL2ID["silhouette"]),
                (_BLUE, LABEL2ID["ligament"]),
            ),
        ),
    )
}


def parse_palette(text: str) -> Palette:
    """A palette by name, or `ridge=#ff0000,silhouette=#ffff00,ligament=#0000ff`, which is hand-drawn.

    Raises:
        PaletteError: neither, or colours that cannot be told from each other or from black.
    """
    if text in PALETTES:
        return PALETTES[text]
    colors = []
    for entry in text.split(","):
        match = re.fullmatch(r"\s*(\w+)\s*=\s*#([0-9a-fA-F]{6})\s*", entry)
        if not match or match[1] not in LANDMARK_NAMES:
            raise PaletteError(
                f"palette {text!r}: choose one of {', '.join(PALETTES)}, or write "
                "ridge=#ff0000,silhouette=#ffff00,ligament=#0000ff"
            )
        red, green, blue = bytes.fromhex(match[2])
        colors.append(((red, green, blue), LABEL2ID[match[1]]))
    _check_apart(text, colors)
    return Palette(text, tuple(colors))


def _check_apart(text: str, colors: Sequence[tuple[tuple[int, int, int], int]]) -> None:
    for place, (color, landmark) in enumerate(colors):
        if np.linalg.norm(color) < 2 * _BAND:
            raise PaletteError(f"palette {text!r}: {_hex(color)} is too dark: masks are black around strokes")
        for other, other_landmark in colors[:place]:
            fit = max(_off_line(np.array(color), other), _off_line(np.array(other), color))
            if landmark != other_landmark and fit < _BAND:
                raise PaletteError(
                    f"palette {text!r}: {_hex(color)} and {_hex(other)} cannot be told apart by hand"
                )


def _off_line(colors: np.ndarray, reference: tuple[int, int, int]) -> np.ndarray:
    """(…, 3) colours -> (…) their distance to the line from black to the reference."""
    return _project(colors.astype(np.float32), reference)[1]


def _project(colors: np.ndarray, reference: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(…, 3) float32 colours -> (…) share of the reference in them, 0 to 1, and what is left, as distance."""
    axis = np.array(reference, np.float32)
    share = np.clip(colors @ axis / float(axis @ axis), 0, 1)
    return share, np.linalg.norm(colors - share[..., None] * axis, axis=-1)


def _hex(color: Sequence[int]) -> str:
    return "#" + bytes(int(value) for value in color).hex()


def read_palette_mask(rgb: np.ndarray, palette: Palette) -> np.ndarray:
    """A picture of strokes on black -> a mask of class ids.

    Args:
        rgb: (H, W, 3) uint8.
        palette: What its colours mean.

    Returns:
        (H, W) uint8.

    Raises:
        PaletteError: the picture is not of this palette.
    """
    mask = _exact(rgb, palette) if palette.exact else _hand_drawn(rgb, palette)
    share = np.count_nonzero(mask) / mask.size
    if share > _MAX_DRAWN_SHARE:
        raise PaletteError(f"{share:.0%} of it are drawn on, expected strokes on black")
    pieces = sum(
        cv2.connectedComponents((mask == landmark.id).view(np.uint8), connectivity=8)[0] - 1
        for landmark in LANDMARKS
    )
    if pieces > _MAX_PIECES:
        raise PaletteError(f"it falls into {pieces} pieces, expected strokes (at most {_MAX_PIECES})")
    return mask


def _exact(rgb: np.ndarray, palette: Palette) -> np.ndarray:
    drawn = rgb.any(axis=-1)
    colors = rgb[drawn]
    classes = np.zeros(len(colors), np.uint8)
    for color, landmark in palette.colors:
        classes[(colors == np.array(color, np.uint8)).all(axis=-1)] = landmark
    strange = np.flatnonzero(classes == BACKGROUND.id)
    if strange.size:
        y, x = np.argwhere(drawn)[strange[0]]
        raise PaletteError(
            f"{strange.size} pixels are of no colour of the palette {palette.name!r}, the first "
            f"at ({x}, {y}) is {_hex(rgb[y, x])}: give --palette if the mask is of another or drawn by hand"
        )
    mask = np.zeros(rgb.shape[:2], np.uint8)
    mask[drawn] = classes
    return mask


def _hand_drawn(rgb: np.ndarray, palette: Palette) -> np.ndarray:
    # Most of a mask is black; what is left has few colours.
    lit = rgb.any(axis=-1)
    codes = rgb[lit].astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    codes, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
    classes, strange = _classify(colors, palette)
    drawn, astray = counts[(classes > 0) | strange].sum(), counts[strange].sum()
    if astray > _MAX_STRANGE_SHARE * drawn:
        most = colors[np.argmax(np.where(strange, counts, 0))]
        raise PaletteError(
            f"{astray / drawn:.0%} of what is drawn is of no colour of the palette {palette.name!r}, "
            f"{_hex(most)} most of all: give the right --palette"
        )
    mask = np.zeros(rgb.shape[:2], np.uint8)
    mask[lit] = classes[places]
    return _opened(mask, _MAX_OPENED_SHARE * drawn)


def _opened(mask: np.ndarray, limit_px: float) -> np.ndarray:
    """Each class without what is less than 3 px wide; refused if that is more than a few specks."""
    opened = np.zeros_like(mask)
    for landmark in LANDMARKS:
        plane = (mask == landmark.id).astype(np.uint8)
        kept = cv2.morphologyEx(plane, cv2.MORPH_OPEN, np.ones((_SIDE_PX, _SIDE_PX), np.uint8))
        before, after = np.count_nonzero(plane), np.count_nonzero(kept)
        if before - after > max(before / 2, limit_px):
            raise PaletteError(
                f"its {landmark.name} strokes are thinner than {_SIDE_PX} px or scattered: "
                f"{before - after} of {before} pixels belong to no stroke"
            )
        opened[kept > 0] = landmark.id
    return opened


def _classify(colors: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """(K, 3) uint8 colours -> (K,) class ids and (K,) whether a colour is none of the palette's."""
    values = colors.astype(np.float32)
    projections = [_project(values, color) for color, _ in palette.colors]
    distances = np.stack([distance for _, distance in projections])
    nearest = distances.argmin(axis=0)
    share = np.take_along_axis(np.stack([share for share, _ in projections]), nearest[None], axis=0)[0]
    ids = np.array([landmark for _, landmark in palette.colors], np.uint8)[nearest]
    strange = (distances.min(axis=0) > _BAND) & (colors.max(axis=-1) > _DIM)
    return np.where((share >= _EDGE) & ~strange, ids, np.uint8(BACKGROUND.id)), strange
