"""Pictures as they go into a dataset: frames, depth maps and color masks, checked and without metadata.

What is compressed stays byte for byte as it came; see ITU-T T.81 (B.1.1) and the PNG specification (5.3).
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from ...model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from ...utils.frame_files import FrameError, FrameLimits, decode_picture, read_frame, read_frame_bytes

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What decides the pixels and their colors; all other chunks are text, time, EXIF or private.
_PNG_KEPT = frozenset(
    (
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"cHRM",
        b"gAMA",
        b"iCCP",
        b"sRGB",
        b"cICP",
        b"sBIT",
        b"pHYs",
    )
)
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP2, _APP14, _APP15, _COM = 0xE0, 0xE2, 0xEE, 0xEF, 0xFE
# Start of frame, of any process: baseline, progressive and so on, without DHT, JPG and DAC.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JFIF_BYTES = 14  # after the length, without a thumbnail
# The end of entropy-coded data: a marker that is no stuffed byte, no restart and no fill.
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")

# Twice a 4K frame, of which as many as are read at once fit into the memory that a build may take.
LIMITS = FrameLimits(max_file_bytes=2**26, max_pixels=2**24)

_ORIENTATION = 0x0112
_UPRIGHT = 1
# EXIF orientation -> what makes the picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's EXIF reader raises on broken data, as its TIFF reader.
_EXIF_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
# From here on the orientation exchanges width and height.
_FIRST_QUARTER_TURN = 5
# Pixel types that every reader of the set decodes alike; others are stored as plain RGB.
_PLAIN_MODES = ("L", "RGB")
_SAMPLING_444, _SAMPLING_420 = 0, 2

_WITHOUT = "repair it, or leave depth maps out with --no-depth"

# How far a hand-drawn color may lie from the line between black and its palette color, RGB distance: what
# JPEG and painting programs make of a stroke lies within, the colors of other palettes 180 and more away.
_BAND = 110.0
# Below this share of a palette color a pixel is background: the middle of an anti-aliased edge.
_EDGE = 0.5
# Dimmer pixels fit any color and none.
_DIM = 64
# More drawn pixels than this share of no palette color: another palette's mask.
_MAX_STRANGE_SHARE = 0.05
# More of a frame than this is not covered by strokes on black.
_MAX_DRAWN_SHARE = 0.5
# A person draws a handful of strokes; tracing takes milliseconds for each piece, minutes for noise.
_MAX_PIECES = 300
# Opening takes corners and specks off. It takes strokes if it takes most of a class, and more than this
# share of all that is drawn: JPEG's specks of other colors along a stroke's edge are less.
_MAX_OPENED_SHARE = 0.05
_SIDE_PX = 3


# Metadata: the parts of a JPEG or PNG that its picture needs, without names, places, thumbnails.


@dataclass(frozen=True)
class BarePicture:
    """A picture file without its metadata.

    Attributes:
        parts: The file's bytes that are kept, in order.
        width: px as stored, before any EXIF orientation.
        height: Likewise.
        whole: Nothing was left out: the parts together are the file.
    """

    parts: tuple[bytes | memoryview, ...]
    width: int
    height: int
    whole: bool

    def joined(self) -> bytes:
        """The file without its metadata."""
        return b"".join(self.parts)


def bare_picture(data: bytes) -> BarePicture | None:
    """Takes a JPEG or PNG apart; None for other formats and where its structure cannot be followed."""
    if data.startswith(_PNG_SIGNATURE):
        return _bare_png(data)
    if data.startswith(b"\xff\xd8"):
        return _bare_jpeg(data)
    return None


def _bare_png(data: bytes) -> BarePicture | None:
    view, position = memoryview(data), len(_PNG_SIGNATURE)
    parts: list[bytes | memoryview] = [view[:position]]
    size = None
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            return None
        if kind == b"IHDR" and length == 13:
            size = struct.unpack_from(">II", data, position + 8)
        if kind in _PNG_KEPT:
            parts.append(view[position:end])
        position = end
        if kind == b"IEND":
            return None if size is None else _bare(parts, size, len(data))
    return None


def _bare_jpeg(data: bytes) -> BarePicture | None:
    view, position = memoryview(data), 2
    parts: list[bytes | memoryview] = [view[:2]]
    size = None
    while position + 4 <= len(data) or data[position : position + 2] == b"\xff\xd9":
        marker = data[position + 1]
        if data[position] != 0xFF:
            return None
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == _EOI:
            parts.append(view[position : position + 2])
            return None if size is None else _bare(parts, size, len(data))
        end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        if marker == _SOI or end < position + 4 or end > len(data):
            return None
        if marker in _SOF and end >= position + 9:
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (width, height)
        if marker == _SOS:
            found = _NEXT_MARKER.search(data, end)
            if found is None:
                return None
            end = found.end() - 2
        parts += _kept_segment(view[position:end], marker)
        position = end
    return None


def _kept_segment(segment: memoryview, marker: int) -> list[bytes | memoryview]:
    if marker == _COM:
        return []
    if not _APP0 <= marker <= _APP15:
        return [segment]
    payload = segment[4:]
    if marker == _APP0 and payload[:5] == b"JFIF\0" and len(payload) >= _JFIF_BYTES:
        if len(payload) == _JFIF_BYTES:
            return [segment]
        # A thumbnail may show what the frame no longer does.
        return [struct.pack(">HH", 0xFFE0, _JFIF_BYTES + 2) + bytes(payload[:12]) + b"\0\0"]
    if marker == _APP2 and payload[:12] == b"ICC_PROFILE\0":
        return [segment]
    # Adobe's segment says how colors are to be decoded.
    return [segment] if marker == _APP14 and payload[:5] == b"Adobe" else []


def _bare(parts: list[bytes | memoryview], size: tuple[int, int], file_bytes: int) -> BarePicture:
    return BarePicture(tuple(parts), *size, whole=sum(map(len, parts)) == file_bytes)


# Frames: checked, upright, without metadata, otherwise byte for byte.


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Attributes:
        data: The encoded bytes, without metadata.
        suffix: `.jpg` or `.png`.
        width: px, upright.
        height: Likewise.
        orientation: EXIF orientation of the file, 1 to 8: 1 is upright already.
        converted: Stored in another format or pixel type than the file's.
    """

    data: bytes
    suffix: str
    width: int
    height: int
    orientation: int
    converted: bool

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) in px of the file's pixels before they were turned."""
        if self.orientation >= _FIRST_QUARTER_TURN:
            return self.height, self.width
        return self.width, self.height


def read_picture(path: Path) -> Picture:
    """Reads a frame's picture.

    A JPEG that EXIF turns is turned and re-encoded with its own quantisation tables; what is neither JPEG
    nor PNG, or of an unusual pixel type, becomes an RGB PNG. All else stays as it was compressed.

    Raises:
        FrameError: as `read_frame`, by tighter limits.
    """
    data = read_frame_bytes(path, LIMITS)
    # The one full decoding: what is truncated or corrupt does not get further.
    image = decode_picture(data, path, LIMITS)
    plain = image.mode in _PLAIN_MODES
    is_jpeg = image.format in ("JPEG", "MPO")
    orientation = _orientation(image, path)
    bare = bare_picture(data)
    if is_jpeg and plain and orientation != _UPRIGHT:
        return _turned(image, orientation)
    if bare is not None and plain and orientation == _UPRIGHT:
        suffix = ".jpg" if is_jpeg else ".png"
        return Picture(bare.joined(), suffix, image.width, image.height, orientation, converted=False)
    rgb = read_frame(path, LIMITS)
    height, width = rgb.shape[:2]
    return Picture(_encode_png(rgb, path), ".png", width, height, orientation, converted=True)


def _orientation(image: Image.Image, path: Path) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, _UPRIGHT)
    except _EXIF_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FrameError(
            f"{path}: which side is up is unknown, its EXIF data cannot be read: {reason}"
        ) from error
    return value if value in _TURNS else _UPRIGHT


def _turned(image: JpegImagePlugin.JpegImageFile, orientation: int) -> Picture:
    quarter = orientation >= _FIRST_QUARTER_TURN
    tables = [
        [table[8 * (place % 8) + place // 8] for place in range(64)] if quarter else list(table)
        for table in _tables(image)
    ]
    sampling = JpegImagePlugin.get_sampling(image)
    if sampling < 0 or (quarter and sampling != _SAMPLING_420):
        sampling = _SAMPLING_444  # halved along one side only, or unusually: full chroma loses nothing
    options = {"icc_profile": image.info["icc_profile"]} if "icc_profile" in image.info else {}
    upright, encoded = image.transpose(_TURNS[orientation]), io.BytesIO()
    upright.save(encoded, "JPEG", qtables=tables, subsampling=sampling, exif=b"", **options)
    # Pillow would carry a comment over.
    data = bare_picture(encoded.getvalue()).joined()
    return Picture(data, ".jpg", upright.width, upright.height, orientation, converted=False)


def _tables(image: JpegImagePlugin.JpegImageFile) -> list[list[int]]:
    """The quantisation tables of luma and, where there is color, of chroma, each row by row."""
    numbers = [component[3] for component in image.layer]
    return [image.quantization[number] for number in numbers[:2]]


def _encode_png(rgb: np.ndarray, path: Path) -> bytes:
    done, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise FrameError(f"{path}: cannot be encoded as PNG")
    return encoded.tobytes()


@dataclass(frozen=True)
class PictureDigest:
    """What identifies a picture file.

    Attributes:
        file: SHA-256 of the file.
        content: SHA-256 of the file without its metadata; None where the file cannot be a frame.
        pixels: Width × height by its header; None where that was not found.
    """

    file: str
    content: str | None
    pixels: int | None


def digest_picture(path: Path) -> PictureDigest:
    """Hashes a picture file without decoding it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if not 0 < path.stat().st_size <= LIMITS.max_file_bytes:
            # Read by the block: it is refused later, and must not fill the memory before.
            return PictureDigest(hashlib.file_digest(file, "sha256").hexdigest(), None, None)
        data = file.read()
    digest = hashlib.sha256(data).hexdigest()
    bare = bare_picture(data)
    if bare is None:
        return PictureDigest(digest, digest, None)
    return PictureDigest(digest, _content_digest(bare, digest), bare.width * bare.height)


def _content_digest(bare: BarePicture, whole: str) -> str:
    if bare.whole:
        return whole
    digest = hashlib.sha256()
    for part in bare.parts:
        digest.update(part)
    return digest.hexdigest()


# Depth maps: gray PNGs of 8 or 16 bits whose numbers are kept.


def read_depth(path: Path, width: int, height: int) -> tuple[bytes, bool]:
    """Reads a depth map of a frame of that size in px.

    Returns:
        A 16-bit gray PNG without metadata, and whether the file has 8 bits.

    Raises:
        FrameError: no gray PNG, truncated, or of another size than the frame.
    """
    data = read_frame_bytes(path, LIMITS)
    image = decode_picture(data, path, LIMITS)
    if image.format != "PNG" or image.mode not in ("L", "I;16"):
        raise FrameError(f"{path}: {image.format} of type {image.mode}, expected a gray PNG; {_WITHOUT}")
    if image.size != (width, height):
        raise FrameError(
            f"{path}: {image.width}×{image.height} px, its frame has {width}×{height} px; {_WITHOUT}"
        )
    bare = bare_picture(data)
    if image.mode == "I;16" and bare is not None:
        return bare.joined(), False
    values = np.asarray(image)
    done, encoded = cv2.imencode(".png", values.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise FrameError(f"{path}: cannot be encoded as PNG")
    return encoded.tobytes(), image.mode == "L"


# Color masks: which color means which landmark, and class ids from pictures of strokes.


class PaletteError(ValueError):
    """A mask that does not fit its palette, or a palette that cannot be one; the message is one line."""


@dataclass(frozen=True)
class Palette:
    """The colors of a kind of masks, strokes on black.

    Attributes:
        name: For messages.
        colors: (RGB, class id) of each color.
        exact: Any other color than these and black is an error; else masks are drawn by hand: edges may
            be anti-aliased and colors a little off.
        table: The landmarks that the class ids mean.
    """

    name: str
    colors: tuple[tuple[tuple[int, int, int], int], ...]
    exact: bool = False
    table: LandmarkTable = DEFAULT_LANDMARKS


_RED, _GREEN, _BLUE, _YELLOW, _WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)

# The published sets of masks have the default landmarks.
_IDS = DEFAULT_LANDMARKS.label2id

PALETTES: dict[str, Palette] = {
    palette.name: palette
    for palette in (
        # LLSD's recolored masks: this project's colors.
        Palette(
            "masks_gt",
            tuple((landmark.color, landmark.id) for landmark in DEFAULT_LANDMARKS.landmarks),
            exact=True,
        ),
        # LLSD as drawn by hand: red is the ligament here.
        Palette(
            "masks_original",
            (
                (_WHITE, _IDS["silhouette"]),
                (_RED, _IDS["ligament"]),
                (_BLUE, _IDS["ridge"]),
                (_GREEN, _IDS["ridge"]),
            ),
        ),
        Palette(
            "p2ilf",
            (
                (_RED, _IDS["ridge"]),
                (_YELLOW, _IDS["silhouette"]),
                (_BLUE, _IDS["ligament"]),
            ),
        ),
    )
}


def parse_palette(text: str, table: LandmarkTable = DEFAULT_LANDMARKS) -> Palette:
    """A palette by name, or `ridge=#ff0000,silhouette=#ffff00,ligament=#0000ff`, which is hand-drawn.

    Args:
        text: The palette.
        table: The set's landmarks; named palettes have the default ones.

    Raises:
        PaletteError: neither, a landmark that the set does not have, or colors that cannot be told from each
            other or from black.
    """
    if text in PALETTES:
        if table.names != DEFAULT_LANDMARKS.names:
            raise PaletteError(
                f"palette {text!r} is of {', '.join(DEFAULT_LANDMARKS.names)}: for other landmarks write "
                f"{','.join(f'{name}=#rrggbb' for name in table.names)}"
            )
        return PALETTES[text]
    colors = []
    for entry in text.split(","):
        match = re.fullmatch(r"\s*([^=]*?)\s*=\s*#([0-9a-fA-F]{6})\s*", entry)
        if not match:
            raise PaletteError(
                f"palette {text!r}: choose one of {', '.join(PALETTES)}, or write "
                "ridge=#ff0000,silhouette=#ffff00,ligament=#0000ff"
            )
        if match[1] not in table.names:
            raise PaletteError(
                f"palette {text!r}: {match[1]!r} is none of {', '.join(table.names)}: "
                "--landmarks names others"
            )
        red, green, blue = bytes.fromhex(match[2])
        colors.append(((red, green, blue), table.label2id[match[1]]))
    _check_apart(text, colors)
    return Palette(text, tuple(colors), table=table)


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
    """(…, 3) colors -> (…) their distance to the line from black to the reference."""
    return _project(colors.astype(np.float32), reference)[1]


def _project(colors: np.ndarray, reference: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(…, 3) float32 colors -> (…) share of the reference in them, 0 to 1, and what is left, as distance."""
    axis = np.array(reference, np.float32)
    share = np.clip(colors @ axis / float(axis @ axis), 0, 1)
    return share, np.linalg.norm(colors - share[..., None] * axis, axis=-1)


def _hex(color: Sequence[int]) -> str:
    return "#" + bytes(int(value) for value in color).hex()


def read_palette_mask(rgb: np.ndarray, palette: Palette) -> np.ndarray:
    """A picture of strokes on black -> a mask of class ids.

    Args:
        rgb: (H, W, 3) uint8.
        palette: What its colors mean.

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
        for landmark in palette.table.landmarks
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
    strange = np.flatnonzero(classes == 0)
    if strange.size:
        y, x = np.argwhere(drawn)[strange[0]]
        raise PaletteError(
            f"{strange.size} pixels are of no color of the palette {palette.name!r}, the first "
            f"at ({x}, {y}) is {_hex(rgb[y, x])}: give --palette if the mask is of another or drawn by hand"
        )
    mask = np.zeros(rgb.shape[:2], np.uint8)
    mask[drawn] = classes
    return mask


def _hand_drawn(rgb: np.ndarray, palette: Palette) -> np.ndarray:
    # Most of a mask is black; what is left has few colors.
    lit = rgb.any(axis=-1)
    codes = rgb[lit].astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    codes, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
    classes, strange = _classify(colors, palette)
    drawn, astray = counts[(classes > 0) | strange].sum(), counts[strange].sum()
    if astray > _MAX_STRANGE_SHARE * drawn:
        most = colors[np.argmax(np.where(strange, counts, 0))]
        raise PaletteError(
            f"{astray / drawn:.0%} of what is drawn is of no color of the palette {palette.name!r}, "
            f"{_hex(most)} most of all: give the right --palette"
        )
    mask = np.zeros(rgb.shape[:2], np.uint8)
    mask[lit] = classes[places]
    return _opened(mask, palette.table, _MAX_OPENED_SHARE * drawn)


def _opened(mask: np.ndarray, table: LandmarkTable, limit_px: float) -> np.ndarray:
    """Each class without what is less than 3 px wide; refused if that is more than a few specks."""
    opened = np.zeros_like(mask)
    for landmark in table.landmarks:
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
    """(K, 3) uint8 colors -> (K,) class ids and (K,) whether a color is none of the palette's."""
    values = colors.astype(np.float32)
    projections = [_project(values, color) for color, _ in palette.colors]
    distances = np.stack([distance for _, distance in projections])
    nearest = distances.argmin(axis=0)
    share = np.take_along_axis(np.stack([share for share, _ in projections]), nearest[None], axis=0)[0]
    ids = np.array([landmark for _, landmark in palette.colors], np.uint8)[nearest]
    strange = (distances.min(axis=0) > _BAND) & (colors.max(axis=-1) > _DIM)
    return np.where((share >= _EDGE) & ~strange, ids, np.uint8(0)), strange
