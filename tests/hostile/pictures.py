"""Hostile picture files, made with Pillow and by hand."""

from __future__ import annotations

import itertools
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from hostile.collection import Collection, Outcome
from hostile.picture_bytes import (
    PNG_MAGIC,
    UPRIGHT,
    as_pillow_reads,
    bmp_header,
    chunks,
    decoded,
    encoded,
    jpeg_header,
    overwritten,
    tiff_header,
    tissue,
    top_down_bitmap,
    webp_header,
)
from raw_sets.pictures import png_bomb, png_chunk

# Name -> (suffix, Pillow's format, options); lossy ones come back as Pillow decodes the whole file.
FORMATS: dict[str, tuple[str, str, dict]] = {
    "png": (".png", "PNG", {}),
    "jpeg": (".jpg", "JPEG", {"quality": 85}),
    "progressive": (".jpeg", "JPEG", {"quality": 85, "progressive": True}),
    "bmp": (".bmp", "BMP", {}),
    "tiff": (".tiff", "TIFF", {}),
    "tiff lzw": (".tif", "TIFF", {"compression": "tiff_lzw"}),
    "tiff jpeg": (".tif", "TIFF", {"compression": "jpeg"}),
    "webp": (".webp", "WEBP", {"quality": 80}),
    "webp lossless": (".webp", "WEBP", {"lossless": True}),
}
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def write_pictures(out: Collection, rng: np.random.Generator) -> None:
    """Writes all kinds of pictures into the collection."""
    for suffix, file_format, options in FORMATS.values():
        pixels = tissue(rng)
        data = encoded(pixels, file_format, **options)
        right = decoded(data)
        out.add("whole picture", suffix, data, Outcome.GOOD, [right])
        for cut in np.linspace(0.6 * len(data), 1, 7).astype(int):
            out.add("truncated picture", suffix, data[:cut], Outcome.DAMAGED, [right])
        for cut in np.linspace(0.7 * len(data), len(data) - 1, 7).astype(int):
            out.add("truncated picture", suffix, data[:cut], Outcome.DAMAGED, [right])
        for _ in range(5):
            noisy = overwritten(rng, data, 6)
            # Nothing but a checksum tells most of these from another picture.
            expected = [right] if file_format == "PNG" else as_pillow_reads(noisy)
            out.add("noise in a picture", suffix, noisy, Outcome.DAMAGED, expected)
        for other in (other for other in SUFFIXES if other != suffix):
            out.add("picture of another suffix", other, data, Outcome.GOOD, [right])
    _write_other_content(out, rng)
    _write_sizes(out, rng)
    _write_several_pictures(out, rng)
    _write_pixel_types(out, rng)
    _write_png_damage(out, rng)
    _write_metadata(out, rng)


def _write_other_content(out: Collection, rng: np.random.Generator) -> None:
    contents = {
        "empty": b"",
        "text": b"no picture at all\n" * 20,
        "html": b"<!DOCTYPE html><html><body><img src='http://localhost/a.png'></body></html>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>",
        "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "random": rng.bytes(500),
        "zeros": bytes(3000),
    }
    suffixes = (*SUFFIXES, ".mp4", ".mkv", ".avi")
    for name, data in contents.items():
        for suffix in suffixes:
            out.add(f"{name} in place of a frame", suffix, data, Outcome.BAD)
    magics = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"RIFF\x10\0\0\0WEBPVP8 ")
    for magic, suffix in zip(magics, (".png", ".jpg", ".bmp", ".tif", ".webp"), strict=True):
        out.add("magic number alone", suffix, magic, Outcome.BAD)
        out.add("magic number before noise", suffix, magic + rng.bytes(300), Outcome.BAD)


def _write_sizes(out: Collection, rng: np.random.Generator) -> None:
    for width, height in [(1, 1), (1, 40), (40, 1), (2, 3), (13, 7)]:
        for name in ("png", "bmp", "tiff", "jpeg", "webp"):
            suffix, file_format, options = FORMATS[name]
            data = encoded(tissue(rng, width, height), file_format, **options)
            family = "1x1 px" if width == height == 1 else "tiny picture"
            out.add(family, suffix, data, Outcome.GOOD, [decoded(data)])
    headers = {".bmp": bmp_header, ".tif": tiff_header, ".jpg": jpeg_header, ".webp": webp_header}
    for side, (suffix, header) in itertools.product((30_000, 65_500), ({".png": png_bomb} | headers).items()):
        out.add("enormous picture", suffix, header(side, side), Outcome.BAD)
    for height in (2**31 - 1, 1):
        out.add("enormous picture", ".png", png_bomb(2**31 - 1, height), Outcome.BAD)
    out.add("no width", ".png", png_bomb(0, 30), Outcome.BAD)
    # Really this large, and small on disk: 9,000 x 9,000 gray pixels in 80 kB.
    rows = zlib.compress(bytes(9_001 * 9_000), 1)
    header = struct.pack(">IIBBBBB", 9_000, 9_000, 8, 0, 0, 0, 0)
    bomb = PNG_MAGIC + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    out.add("decompression bomb", ".png", bomb, Outcome.BAD)


def _write_several_pictures(out: Collection, rng: np.random.Generator) -> None:
    images = [Image.fromarray(tissue(rng)) for _ in range(3)]
    for suffix, file_format in ((".webp", "WEBP"), (".png", "PNG"), (".tif", "TIFF"), (".png", "GIF")):
        several = encoded(images[0], file_format, save_all=True, append_images=images[1:])
        out.add("several pictures in one", suffix, several, Outcome.BAD)
    out.add("format that is not taken", ".png", encoded(images[0].convert("P"), "GIF"), Outcome.BAD)
    for suffix, file_format in ((".png", "PPM"), (".jpg", "JPEG2000"), (".bmp", "ICO"), (".tif", "TGA")):
        out.add("format that is not taken", suffix, encoded(images[0], file_format), Outcome.BAD)


def _write_pixel_types(out: Collection, rng: np.random.Generator) -> None:
    pixels = tissue(rng)
    gray = pixels[..., 0]
    deep = rng.integers(0, 65536, gray.shape, dtype=np.uint16)
    # 65535 is white: the nearest of 256 steps.
    shallow = np.repeat(np.rint(deep / 257).astype(np.uint8)[..., None], 3, axis=2)
    three = np.repeat(gray[..., None], 3, axis=2)
    image = Image.fromarray(pixels)
    plain = [("PNG", ".png"), ("BMP", ".bmp"), ("TIFF", ".tif")]
    palette, binary = image.quantize(40), Image.fromarray(gray > 120)
    opaque, faint = Image.fromarray(np.dstack([pixels, gray])), Image.fromarray(np.dstack([gray, gray // 2]))
    for family, formats, picture, right in (
        ("cmyk", [("JPEG", ".jpg"), ("TIFF", ".tif")], image.convert("CMYK"), None),
        ("gray jpeg", [("JPEG", ".jpg")], Image.fromarray(gray), None),
        ("16 bit", [("PNG", ".png"), ("TIFF", ".tif")], Image.fromarray(deep), shallow),
        ("palette", plain, palette, np.array(palette.convert("RGB"))),
        ("gray", plain, Image.fromarray(gray), three),
        ("black and white", plain, binary, np.uint8(255) * (three > 120)),
        ("alpha", [("PNG", ".png"), ("TIFF", ".tif")], opaque, pixels),
        ("gray and alpha", [("PNG", ".png")], faint, three),
    ):
        for file_format, suffix in formats:
            data = encoded(picture, file_format)
            out.add(family, suffix, data, Outcome.GOOD, [decoded(data) if right is None else right])
    for mode in ("F", "LAB"):
        converted = Image.fromarray(gray).convert("F") if mode == "F" else image.convert("RGB").convert("LAB")
        out.add("pixels that are no colors", ".tif", encoded(converted, "TIFF"), Outcome.BAD)
    out.add("top-down bitmap", ".bmp", top_down_bitmap(pixels), Outcome.GOOD, [pixels])


def _write_png_damage(out: Collection, rng: np.random.Generator) -> None:
    pixels = tissue(rng)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).quantize(16)):
        right = np.array(image.convert("RGB"))
        notes = PngImagePlugin.PngInfo()
        notes.add_text("Comment", "a note")
        data = encoded(image, "PNG", pnginfo=notes)
        for start, length in chunks(data):
            broken = bytearray(data)
            broken[start + 8 + length] ^= 0xFF
            out.add("wrong checksum", ".png", bytes(broken), Outcome.DAMAGED, [right])
            without = data[:start] + data[start + 12 + length :]
            # A note and, to most readers, the end mark are not needed.
            out.add("chunk left out", ".png", without, Outcome.DAMAGED, as_pillow_reads(without))
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    for family, packed in (
        ("no deflate stream", rows),
        ("wrong adler sum", zlib.compress(rows)[:-4] + b"\1\2\3\4"),
    ):
        data = PNG_MAGIC + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
        out.add(family, ".png", data, Outcome.DAMAGED, [pixels])


def _write_metadata(out: Collection, rng: np.random.Generator) -> None:
    pixels = tissue(rng)
    formats = ("jpeg", "png", "webp", "tiff")
    for (turn, set_upright), name in itertools.product(UPRIGHT.items(), formats):
        suffix, file_format, options = FORMATS[name]
        exif = Image.Exif()
        exif[0x0112] = turn
        data = encoded(pixels, file_format, exif=exif, **options)
        # Of a file without the turn: Pillow turns TIFFs by itself.
        right = np.ascontiguousarray(set_upright(decoded(encoded(pixels, file_format, **options))))
        out.add("turned by exif", suffix, data, Outcome.GOOD, [right])
    blob = b"Exif\0\0" + b"II*\0\x08\0\0\0\x01\0" + b"\x12\x01\x03\0\xff\xff\xff\xff" + rng.bytes(60_000)
    for name in ("jpeg", "png", "webp"):
        suffix, file_format, options = FORMATS[name]
        plain = decoded(encoded(pixels, file_format, **options))
        for family, value in (("exif of 60 kB of noise", blob), ("exif of noise", rng.bytes(90))):
            data = encoded(pixels, file_format, exif=value, **options)
            out.add(family, suffix, data, Outcome.DAMAGED, [plain])
        data = encoded(pixels, file_format, icc_profile=rng.bytes(5000), **options)
        out.add("color profile of noise", suffix, data, Outcome.DAMAGED, [plain])
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "x" * 20_000_000, zip=True)
    out.add("text bomb", ".png", encoded(pixels, "PNG", pnginfo=notes), Outcome.DAMAGED, [pixels])
