"""Mutations of exact color masks (LLSD's `masks_gt`): of the PNG file, and of what it shows."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFilter

from .fuzzing import Operators, Rng, choose
from .pictures import png_bomb, png_chunk
from .truth import Landmarks

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class MaskSource:
    """An exact mask.

    Attributes:
        pixels: (H, W, 3) uint8 RGB: black, and one color a class.
        colors: What each class is drawn in.
        landmarks: What is traced from it.
    """

    pixels: np.ndarray
    colors: dict[str, tuple[int, int, int]]
    landmarks: Landmarks


Operator = Callable[[Rng, MaskSource], bytes]


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """An image as a file of that format."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """A PNG's chunks: kind and content."""
    found, position = [], len(SIGNATURE)
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        found.append((kind, data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def joined(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of those chunks."""
    return SIGNATURE + b"".join(png_chunk(kind, content) for kind, content in parts)


def _plain(rng: Rng, source: MaskSource) -> bytes:
    return saved(Image.fromarray(source.pixels), compress_level=int(rng.integers(10)))


def _palette(rng: Rng, source: MaskSource) -> bytes:
    colors = [(0, 0, 0), *source.colors.values(), (9, 9, 9), (200, 100, 50)]
    colors = rng.permutation(colors).astype(np.uint8)
    indices = (source.pixels[:, :, None] == colors).all(-1).argmax(-1).astype(np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette(colors.tobytes())
    return saved(image, **choose(rng, [{}, {"bits": 4}, {"bits": 8}]))


def _sixteen_bits(rng: Rng, source: MaskSource) -> bytes:
    _, data = cv2.imencode(".png", source.pixels[..., ::-1].astype(np.uint16) * 257)
    return data.tobytes()


def _split_data(rng: Rng, source: MaskSource) -> bytes:
    parts = []
    for kind, content in chunks(_plain(rng, source)):
        step = len(content) if kind != b"IDAT" else int(rng.integers(1, len(content) + 1))
        pieces = [content[start : start + step] for start in range(0, len(content), max(step, 1))]
        parts += [(kind, piece) for piece in pieces] or [(kind, b"")]
    return joined(parts)


def _more_chunks(rng: Rng, source: MaskSource) -> bytes:
    header, *rest = chunks(_plain(rng, source))
    more = [
        (b"tEXt", b"Comment\x00drawn by hand"),
        (b"gAMA", struct.pack(">I", 45_455)),
        (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        (b"zzZz", rng.bytes(40)),
        (b"tRNS", bytes(6)),
        (b"tIME", struct.pack(">HBBBBB", 2024, 1, 1, 0, 0, 0)),
    ]
    kept = [chunk for chunk in more if rng.integers(2)]
    return joined([header, *kept, *rest])


def _as_one_of(*formats: tuple[str, dict[str, Any]]) -> Operator:
    def operator(rng: Rng, source: MaskSource) -> bytes:
        form, options = choose(rng, list(formats))
        return saved(Image.fromarray(source.pixels), form, **options)

    return operator


def _rows_are_whole(data: bytes, height: int, width: int) -> bool:
    """Whether all rows can be had from the start of a PNG of one IDAT chunk and 8-bit RGB."""
    start = data.find(b"IDAT")
    if start < 0:
        return False
    length = struct.unpack(">I", data[start - 4 : start])[0]
    found = zlib.decompressobj().decompress(data[start + 4 : start + 4 + length])
    return len(found) >= height * (1 + 3 * width)


def _truncated(rng: Rng, source: MaskSource) -> bytes:
    data = _plain(rng, source)
    # Without checksums and end the rows may all be there: then nothing is lost that matters.
    while _rows_are_whole(cut := data[: int(rng.integers(1, len(data)))], *source.pixels.shape[:2]):
        pass
    return cut


def _bit_flipped(rng: Rng, source: MaskSource) -> bytes:
    """In the header, the compressed rows or their checksums: what a checksum is there to find."""
    data = bytearray(_plain(rng, source))
    end = data.rindex(b"IEND") - 4
    header, rows = range(16, 33), range(data.find(b"IDAT") + 4, end)
    place = choose(rng, list(choose(rng, [header, rows])))
    data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _row_changed(rng: Rng, source: MaskSource) -> bytes:
    """Compressed rows that do not fit their own checksum, in a chunk whose checksum fits."""
    parts = dict(chunks(_plain(rng, source)))
    rows = bytearray(zlib.decompress(parts[b"IDAT"]))
    true_sum = zlib.compress(bytes(rows))[-4:]
    rows[int(rng.integers(len(rows)))] ^= 255
    parts[b"IDAT"] = zlib.compress(bytes(rows))[:-4] + true_sum
    return joined(list(parts.items()))


def _another_size(rng: Rng, source: MaskSource) -> bytes:
    image = Image.fromarray(source.pixels)
    width, height = image.size
    sizes = [(height, width), (2 * width, 2 * height), (width + 1, height), (width, height - 1), (1, 1)]
    return saved(image.resize(choose(rng, sizes), Image.Resampling.NEAREST))


def _without_color(rng: Rng, source: MaskSource) -> bytes:
    """As shades of 8 and 16 bits, as class ids, as black and white."""
    gray, ids = Image.fromarray(source.pixels).convert("L"), (source.pixels != 0).any(-1)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    other = [gray, deep, gray.convert("LA"), Image.fromarray(ids), Image.fromarray(ids * np.uint8(3))]
    return saved(choose(rng, other))


def _off_palette(rng: Rng, source: MaskSource) -> bytes:
    """A stroke, a part of it or a single pixel in a color that is none of the palette's."""
    pixels = source.pixels.copy()
    drawn = np.argwhere(pixels.any(-1))
    y, x = choose(rng, drawn.tolist())
    colors = [(254, 0, 0), (0, 253, 0), (0, 0, 254), (128, 0, 0), (255, 255, 0), (255, 255, 255), (1, 1, 1)]
    reach = int(choose(rng, [1, 3, 9]))
    part = pixels[max(0, y - reach + 1) : y + reach, max(0, x - reach + 1) : x + reach]
    part[part.any(-1)] = choose(rng, colors)
    return saved(Image.fromarray(pixels))


def _smoothed(rng: Rng, source: MaskSource) -> bytes:
    image = Image.fromarray(source.pixels)
    blurred = image.filter(ImageFilter.GaussianBlur(1))
    large = (2 * image.width, 2 * image.height)
    resized = image.resize(large, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)
    return saved(choose(rng, [blurred, resized]))


def _huge_header(rng: Rng, source: MaskSource) -> bytes:
    sizes = [(60_000, 60_000), (2**31 - 1, 1), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1), (30_000, 30_000)]
    return png_bomb(*choose(rng, sizes))


def _text_bomb(rng: Rng, source: MaskSource) -> bytes:
    header, *rest = chunks(_plain(rng, source))
    bomb = zlib.compress(bytes(50_000_000), 9)
    kind, content = choose(
        rng, [(b"zTXt", b"Comment\x00\x00" + bomb), (b"iTXt", b"Comment\x00\x01\x00\x00\x00" + bomb)]
    )
    return joined([header, (kind, content), *rest])


def _impossible_header(rng: Rng, source: MaskSource) -> bytes:
    parts = chunks(_plain(rng, source))
    height, width = source.pixels.shape[:2]
    fields = [width, height, 8, 2, 0, 0, 0]
    # Size 0; bits and color types that do not exist; unknown compression, filters and interlacing.
    place, value = choose(rng, [(0, 0), (1, 0), (2, 3), (2, 7), (3, 1), (3, 5), (3, 9), (2, 64)])
    fields[place] = value
    return joined([(b"IHDR", struct.pack(">IIBBBBB", *fields)), *parts[1:]])


def _no_picture(rng: Rng, source: MaskSource) -> bytes:
    gif = saved(Image.fromarray(source.pixels), "GIF")
    values = [b"", b"mask", b"<svg/>", gif, SIGNATURE, bytes(10_000), b"%PDF-1.4", b"\xff\xd8\xff\xe0", b"BM"]
    return choose(rng, [*values, b"P6\n1 1\n255\n\x00\x00\x00"])


def _class_wiped_out(rng: Rng, source: MaskSource) -> tuple[bytes, Landmarks]:
    name = choose(rng, list(source.colors))
    pixels = source.pixels.copy()
    pixels[(pixels == source.colors[name]).all(-1)] = 0
    return saved(Image.fromarray(pixels)), [curve for curve in source.landmarks if curve["category"] != name]


MASK_OPERATORS = Operators[MaskSource](
    same={
        "written again": _plain,
        "palette": _palette,
        "alpha": lambda rng, source: saved(Image.fromarray(source.pixels).convert("RGBA")),
        "16 bits a color": _sixteen_bits,
        "several data chunks": _split_data,
        "more chunks": _more_chunks,
        "another lossless format": _as_one_of(("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})),
        "bytes behind": lambda rng, source: _plain(rng, source) + rng.bytes(int(rng.integers(1, 50))),
    },
    left_out={
        "truncated": _truncated,
        "bit flipped": _bit_flipped,
        "rows changed": _row_changed,
        "another size": _another_size,
        "no color": _without_color,
        "off palette": _off_palette,
        "smoothed": _smoothed,
        "compressed lossily": _as_one_of(
            *((form, {"quality": quality}) for form in ("JPEG", "WEBP") for quality in range(20, 90, 10))
        ),
        "huge header": _huge_header,
        "text bomb": _text_bomb,
        "impossible header": _impossible_header,
        "several pictures": lambda rng, source: saved(
            Image.fromarray(source.pixels),
            save_all=True,
            append_images=[Image.fromarray(source.pixels[::-1])],
        ),
        "no picture": _no_picture,
    },
    other={
        "emptied": lambda rng, source: (saved(Image.fromarray(np.zeros_like(source.pixels))), []),
        "class wiped out": _class_wiped_out,
    },
)
