"""What the image processor takes in: any image as pixels, any map as class ids, or a one-line error."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

_EXIF_ORIENTATION = 0x0112
# What Pillow's decoders raise on broken files.
_DECODING_ERRORS = (OSError, SyntaxError, EOFError, ValueError, IndexError, struct.error, zlib.error)
# Modes that Pillow does not convert to RGB in one step, or only with a warning about transparency.
_BY_WAY_OF = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}
_IMAGE_TYPES = "expected bool, uint8 (0..255), uint16 (0..65535) or a float (0..1)"


def size_text(size: Sequence[int]) -> str:
    """(H, W) as people write it."""
    return f"{size[1]}×{size[0]}"


def describe_input(value: Any, argument: str, index: int) -> str:
    """What errors call an input: its place in the batch, and its file where it has one."""
    filename = getattr(value, "filename", "")
    return f"{argument}[{index}]" + (f" ({filename})" if filename else "")


def as_batch(values: Any, argument: str, batched_ndim: int) -> list[Any]:
    """One input, a list of them or a batched array, as a list of inputs."""
    if isinstance(values, (list, tuple)) or (
        isinstance(values, (np.ndarray, torch.Tensor)) and values.ndim == batched_ndim
    ):
        batch = list(values)
    else:
        batch = [values]
    if not batch:
        raise ValueError(f"{argument}: empty batch")
    return batch


def _check_pixel_count(size: Sequence[int], name: str, max_pixels: int) -> None:
    height, width = size
    if height == 0 or width == 0:
        raise ValueError(f"{name}: empty, {width}×{height} px")
    if height * width > max_pixels:
        raise ValueError(f"{name}: {width}×{height} px is more than the limit of {max_pixels} (max_pixels)")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _decode_pil(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """The decoded, upright image. Its size is checked first: opening a file reads its header only."""
    _check_pixel_count((image.height, image.width), name, max_pixels)
    try:
        image.load()
        if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            return ImageOps.exif_transpose(image)
    except _DECODING_ERRORS as error:
        raise ValueError(f"{name}: cannot be decoded: {_one_line(error)}") from error
    return image


def _array_from_pil(image: Image.Image, name: str) -> np.ndarray:
    """A decoded image as (H, W) of grey or (H, W, 3) of RGB; 16 bits and floats keep their depth."""
    if image.mode == "I":
        low, high = image.getextrema()
        if low < 0 or high > 65535:
            raise ValueError(f"{name}: mode I with values {low}..{high}: expected 0..65535")
        return np.array(image).astype(np.uint16)
    if image.mode in ("L", "RGB", "F") or image.mode.startswith("I;16"):
        return np.array(image)
    try:
        if image.mode in _BY_WAY_OF:
            image = image.convert(_BY_WAY_OF[image.mode])
        return np.array(image.convert("RGB"))
    except _DECODING_ERRORS as error:
        raise ValueError(f"{name}: mode {image.mode} cannot be converted to RGB") from error


def _tensor_from_array(array: np.ndarray) -> torch.Tensor:
    """Copies only where torch must: foreign byte order, negative strides, read-only memory."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


def _channels_first(pixels: torch.Tensor, name: str, data_format: str | None, default: str) -> torch.Tensor:
    """(H, W), (C, H, W) or (H, W, C) as a (1 or 3, H, W) view: alpha is left out."""
    if pixels.ndim == 2:
        return pixels[None]
    could_be = {
        "channels_first": pixels.ndim == 3 and pixels.shape[0] in (1, 2, 3, 4),
        "channels_last": pixels.ndim == 3 and pixels.shape[2] in (1, 2, 3, 4),
    }
    if data_format is None:
        other = "channels_last" if default == "channels_first" else "channels_first"
        data_format = default if could_be[default] else other
    if not could_be[data_format]:
        raise ValueError(
            f"{name}: shape {tuple(pixels.shape)}: expected (H, W), or 1 to 4 channels first or last"
        )
    if data_format == "channels_last":
        pixels = pixels.permute(2, 0, 1)
    return pixels[:3] if pixels.shape[0] >= 3 else pixels[:1]


def read_image(image: Any, name: str, data_format: str | None, max_pixels: int) -> torch.Tensor:
    """Any image as (1 or 3, H, W) of uint8, uint16 or float32, in its own range and on its device.

    A view where it can be: a picture that came with its channels last keeps them last in memory, and
    that is what torch's 8-bit resize is fast on.
    """
    default = "channels_last"
    if isinstance(image, Image.Image):
        data_format = None  # speaks of arrays
        pixels = _tensor_from_array(_array_from_pil(_decode_pil(image, name, max_pixels), name))
    elif isinstance(image, np.ndarray):
        if image.dtype.kind not in "biuf" or image.dtype == np.longdouble:
            raise ValueError(f"{name}: dtype {image.dtype}: {_IMAGE_TYPES}")
        pixels = _tensor_from_array(image)
    elif isinstance(image, torch.Tensor):
        pixels, default = image.detach(), "channels_first"
    else:
        raise ValueError(f"{name}: {type(image).__name__}: expected a PIL image, an array or a tensor")

    pixels = _channels_first(pixels, name, data_format, default)
    _check_pixel_count(pixels.shape[-2:], name, max_pixels)
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    if pixels.dtype in (torch.uint8, torch.uint16):
        return pixels
    if not pixels.dtype.is_floating_point:
        raise ValueError(f"{name}: dtype {pixels.dtype}: {_IMAGE_TYPES}")
    pixels = pixels.to(torch.float32)
    if not torch.isfinite(pixels).all():
        raise ValueError(f"{name}: not all values are finite")
    return pixels


def read_map(mask: Any, name: str, max_pixels: int) -> torch.Tensor:
    """Any map as (H, W) uint8 of ids 0..255, on its device."""
    if isinstance(mask, Image.Image):
        mask = _decode_pil(mask, name, max_pixels)
        if mask.mode not in ("1", "L", "P", "I") and not mask.mode.startswith("I;16"):
            raise ValueError(f"{name}: mode {mask.mode}: expected class ids in mode L or P, not colours")
        mask = np.array(mask)
    if isinstance(mask, np.ndarray):
        if mask.dtype.kind not in "biu":
            raise ValueError(f"{name}: dtype {mask.dtype}: expected integers, class ids")
        mask = _tensor_from_array(mask)
    if not isinstance(mask, torch.Tensor):
        raise ValueError(f"{name}: {type(mask).__name__}: expected a PIL image, an array or a tensor")
    if mask.dtype.is_floating_point or mask.dtype.is_complex:
        raise ValueError(f"{name}: dtype {mask.dtype}: expected integers, class ids")
    if mask.ndim == 3 and 1 in (mask.shape[0], mask.shape[2]):
        mask = mask[0] if mask.shape[0] == 1 else mask[..., 0]
    if mask.ndim != 2:
        raise ValueError(f"{name}: shape {tuple(mask.shape)}: expected (H, W) of class ids")
    _check_pixel_count(mask.shape, name, max_pixels)
    if mask.dtype not in (torch.uint8, torch.bool):
        low, high = (value.item() for value in mask.to(torch.int64).aminmax())
        if low < 0 or high > 255:
            raise ValueError(f"{name}: class ids {low}..{high}: expected 0..255")
    return mask.to(torch.uint8)


__all__ = ["as_batch", "describe_input", "read_image", "read_map", "size_text"]
