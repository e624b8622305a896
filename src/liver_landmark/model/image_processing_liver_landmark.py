"""Image processor: frames and masks in, model inputs out, and logits back to masks at native size.

One implementation, in torch without torchvision. transformers' own processors come in a torchvision and a
PIL backend that differ by up to 1/255 before normalization; here every kind of input meets the same code.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from transformers import BatchFeature
from transformers.image_processing_outputs import SemanticSegmentationPostProcessorOutput
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import SizeDict

from .landmarks_liver_landmark import LandmarkTable
from .post_processing_liver_landmark import class_map, landmark_scores, upsample

# ImageNet statistics: SAM 2.1 and Depth Anything V2 were both trained with them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# 8192 × 8192: twice an 8K frame. Pillow itself only warns at 89 Mpx and refuses at twice that.
MAX_PIXELS = 2**26

_RESAMPLE_MODES = {
    int(Image.Resampling.BILINEAR): "bilinear",
    int(Image.Resampling.BICUBIC): "bicubic",
}
_TO_8_BIT_RANGE = {torch.uint8: 1.0, torch.uint16: 255 / 65535, torch.float32: 255.0}
# Floats may leave 0..1 by this much, so that the rounding of an augmentation is no error.
_FLOAT_SLACK = 1e-3


class LiverLandmarkImageProcessorKwargs(TypedDict, total=False):
    """The fields of `preprocessor_config.json`; each one can also be overridden in a call."""

    do_convert_rgb: bool
    do_resize: bool
    size: dict[str, int]
    label_size: dict[str, int] | None
    resample: int
    do_rescale: bool
    rescale_factor: float
    do_normalize: bool
    image_mean: list[float]
    image_std: list[float]
    max_pixels: int


class LiverLandmarkImageProcessor(BaseImageProcessor):
    """Prepares laparoscopic frames for the model, and turns its logits into masks.

    What you will actually change is `size`. The resize is to exactly that height and width, without
    keeping the aspect: a square, as in the paper, by default.

    What is accepted as an image:

    - PIL images of any mode. Alpha is dropped, gray becomes three equal channels, a palette is looked
      up, 16-bit gray (`I;16`, or `I` within 0..65535) keeps its depth. EXIF orientation is applied, so
      a segmentation map and `target_sizes` have to be in the upright orientation too.
    - NumPy arrays and torch tensors of 2 or 3 axes, channels first or last (1 gray, 2 gray + alpha,
      3 RGB, 4 RGBA). Where both ends could be channels, NumPy is read as channels last and torch as
      channels first, unless `input_data_format` says otherwise. bool, uint8 (0..255), uint16
      (0..65535) or floats within 0..1 (of any range with `do_rescale=False`). Tensors stay on their
      device.
    - A list or tuple of those, of different sizes where `do_resize` is on, or a 4-D array or tensor.

    Anything else, and anything corrupt, empty, not finite or larger than `max_pixels`, is a ValueError
    that says which image it was (the pixel count of a PIL file is checked before it is decoded).

    The arguments are those of transformers' `SegformerImageProcessor`, with the same meaning but for:

    | argument | here | why |
    |---|---|---|
    | `return_tensors` | "pt" by default; None gives lists, as there | the model takes nothing else |
    | `size` | a side, (height, width) or both by name; no edges | the model is trained on one shape |
    | `do_convert_rgb` | on by default; off, other images are refused | the model takes three channels |
    | `device` | labels go there too; by default, where the images are | the loss needs both |
    | `data_format` | "channels_first" only; ignored there | a caller who asks for more would get less |
    | `do_reduce_labels` | False only | class 0, the background, is a class of the model |
    | `do_center_crop`, `crop_size`, `do_pad`, `pad_size` | unknown | landmarks reach to the border |
    | `disable_grouping` | unknown | images are processed one by one |
    | paths and links as images | refused | `pipeline` opens them, within limits |
    | `label_size`, `max_pixels` | only here | labels finer than the input; files from strangers |
    | `interpolation`, `return_scores`, `score_classes`, `id2label` | only here | see post-processing |

    Args:
        do_convert_rgb: Convert gray, palettes, alpha and other modes to RGB; False: refuse them.
        do_resize: Resize to `size`. Without it, all images of a batch that becomes a tensor must have
            one size.
        size: {"height", "width"} of `pixel_values`, px; also a square's side, or (height, width).
        label_size: {"height", "width"} of `labels`, px; None: as `pixel_values`.
        resample: PIL's number, 2 (bilinear) or 3 (bicubic, which may overshoot); antialiased. 8-bit
            images on the CPU go through torch's 8-bit kernel, which rounds as Pillow does: the float
            path that other types and devices take differs from it by up to 1/255.
        do_rescale: Multiply the pixels, brought to the range 0..255 whatever their type, by
            `rescale_factor`. Without it, values are taken as they are.
        rescale_factor: See `do_rescale`.
        do_normalize: Subtract `image_mean` and divide by `image_std`.
        image_mean: Mean of the three channels, after rescaling; one number: of each.
        image_std: Standard deviation of the three channels, after rescaling; one number: of each.
        max_pixels: Larger images (height × width) are refused.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 - transformers reads it as a list on the class
    valid_kwargs = LiverLandmarkImageProcessorKwargs

    def __init__(
        self,
        do_resize: bool = True,
        size: dict[str, int] | Sequence[int] | int | None = None,
        label_size: dict[str, int] | Sequence[int] | int | None = None,
        resample: int = int(Image.Resampling.BILINEAR),
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: Sequence[float] | float = IMAGENET_MEAN,
        image_std: Sequence[float] | float = IMAGENET_STD,
        max_pixels: int = MAX_PIXELS,
        do_convert_rgb: bool = True,
        auto_map: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        # What transformers writes into preprocessor_config.json beside the fields.
        for key in ("image_processor_type", "processor_class", "feature_extractor_type"):
            kwargs.pop(key, None)
        if kwargs:
            raise TypeError(f"{type(self).__name__}: unknown field {next(iter(kwargs))!r}")
        super().__init__()
        if auto_map is not None:
            self.auto_map = auto_map
        settings = _validated_settings(
            {
                "do_convert_rgb": do_convert_rgb,
                "do_resize": do_resize,
                "size": {"height": 1024, "width": 1024} if size is None else size,
                "label_size": label_size,
                "resample": resample,
                "do_rescale": do_rescale,
                "rescale_factor": rescale_factor,
                "do_normalize": do_normalize,
                "image_mean": image_mean,
                "image_std": image_std,
                "max_pixels": max_pixels,
            }
        )
        for name, value in settings.items():
            setattr(self, name, value)

    def __call__(
        self,
        images: Any,
        segmentation_maps: Any = None,
        return_tensors: str | None = "pt",
        **overrides: Any,
    ) -> BatchFeature:
        """See `preprocess`."""
        return self.preprocess(images, segmentation_maps, return_tensors, **overrides)

    def preprocess(
        self,
        images: Any,
        segmentation_maps: Any = None,
        return_tensors: str | None = "pt",
        input_data_format: str | None = None,
        data_format: str | None = None,
        device: str | torch.device | None = None,
        do_reduce_labels: bool = False,
        **overrides: Any,
    ) -> BatchFeature:
        """Images, and the maps paired with them, as model inputs.

        Args:
            images: One image or a batch; see the class.
            segmentation_maps: None, or one (H, W) map of class ids for each image, of the image's
                size: PIL in mode L, P (the indices are the ids), 1, I or I;16, or NumPy or torch
                integers. Resized by nearest, so that no id is invented; 255 (ignored) stays 255.
            return_tensors: "pt" or "np"; None: lists of tensors, one for each image, of any sizes.
            input_data_format: "channels_first" or "channels_last" of array images; None: found out.
            data_format: "channels_first" or None, which is the same: what the model takes.
            device: Where to process; None: where each image is.
            do_reduce_labels: False. Class 0 is the background, and stays.
            **overrides: Any field of the configuration, for this call.

        Returns:
            `pixel_values` (B, 3, height, width) float32 and, with maps, `labels` (B, height, width)
            int64 of ids 0..255, on `device` or the images' device.

        Raises:
            ValueError: an input that cannot be read, in one line that names it.
            TypeError: an unknown keyword.
        """
        settings = {name: getattr(self, name) for name in LiverLandmarkImageProcessorKwargs.__annotations__}
        unknown = [name for name in overrides if name not in settings]
        if unknown:
            raise TypeError(f"{type(self).__name__}: unknown keyword {unknown[0]!r}")
        settings = _validated_settings(settings | overrides)
        if return_tensors not in (None, "pt", "np"):
            raise ValueError(f"return_tensors={return_tensors!r}: choose 'pt', 'np' or None")
        if input_data_format not in (None, "channels_first", "channels_last"):
            raise ValueError(
                f"input_data_format={input_data_format!r}: choose 'channels_first' or 'channels_last'"
            )
        if data_format not in (None, "channels_first"):
            raise ValueError(f"data_format={data_format!r}: the model takes 'channels_first' only")
        if do_reduce_labels:
            raise ValueError(
                "do_reduce_labels: class 0 is the background, a class of the model: leave it out"
            )

        images = as_batch(images, "images", batched_ndim=4)
        maps: list[Any] = [None] * len(images)
        if segmentation_maps is not None:
            maps = as_batch(segmentation_maps, "segmentation_maps", batched_ndim=3)
            if len(maps) != len(images):
                raise ValueError(
                    f"{len(images)} images, but {len(maps)} segmentation_maps: give one for each"
                )
        pixel_values, labels = [], []
        for index, (image, mask) in enumerate(zip(images, maps, strict=True)):
            name = describe_input(image, "images", index)
            pixels = read_image(image, name, input_data_format, settings["max_pixels"])
            if not settings["do_convert_rgb"]:
                _check_is_rgb(image, pixels, name)
            if device is not None:
                pixels = pixels.to(device)
            pixel_values.append(_prepare_pixels(pixels, name, settings))
            if segmentation_maps is not None:
                name = describe_input(mask, "segmentation_maps", index)
                ids = read_map(mask, name, settings["max_pixels"])
                if ids.shape != pixels.shape[-2:]:
                    sizes = f"{size_text(ids.shape)} px, but its image is {size_text(pixels.shape[-2:])} px"
                    raise ValueError(f"{name}: {sizes} (upright, if it has an EXIF orientation)")
                labels.append(_resize_map(ids.to(pixels.device), settings))

        data: dict[str, Any] = {"pixel_values": pixel_values}
        if segmentation_maps is not None:
            data["labels"] = labels
        if return_tensors is not None:
            arguments = {"pixel_values": "images", "labels": "segmentation_maps"}
            data = {key: _stack(tensors, arguments[key]) for key, tensors in data.items()}
        if return_tensors == "np":
            data = {key: value.cpu().numpy() for key, value in data.items()}
        return BatchFeature(data=data)

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None = None,
        return_segmentation_scores: bool = False,
        *,
        interpolation: str = "bilinear",
        return_scores: bool = False,
        score_classes: Sequence[str] | None = None,
        id2label: Mapping[int, str] | None = None,
    ) -> list[torch.Tensor] | list[dict[str, Any]] | list[SemanticSegmentationPostProcessorOutput]:
        """Class maps at each frame's native size.

        The largest of the upsampled logits (`class_map`, which interpolates few of them). One frame at a
        time, so that a batch of 4K frames needs the memory of one.

        Args:
            outputs: What the model returned: `outputs.logits` (B, C, h, w).
            target_sizes: B pairs (height, width), px; None: the logits' own size.
            return_segmentation_scores: Give, for each frame, a `SemanticSegmentationPostProcessorOutput`
                with the map as `segmentation` and the upsampled logits, (C, height, width), as
                `segmentation_scores`: what Segformer's gives. It costs the memory that `class_map` saves.
            interpolation: "bilinear" (half-pixel centers, align_corners=False) or "nearest".
            return_scores: Give, for each frame, {"segmentation": map, "scores": {class name: float}}; with
                `return_segmentation_scores`, `scores` beside its two entries.
                A class's score is the mean softmax probability of that class over the pixels that it
                was given, 0.0 where it was given none: a measure of how sure the model is of what it
                drew, not of whether it drew everything.
            score_classes: The classes that scores are wanted for; None: all. Those of the landmarks cost a
                few ms for a 1080p frame, the background's the upsampling of the whole frame.
            id2label: `model.config.id2label`, which names the scores; needed for them only.

        Returns:
            B maps (height, width) int64 on the logits' device, or B dicts or outputs.

        Raises:
            ValueError: logits that are not (B, C, h, w) or not finite, sizes or names that do not fit them,
                or scores without names.
        """
        logits = outputs.logits.detach()
        if logits.ndim != 4:
            raise ValueError(f"logits: expected (B, C, h, w), got {tuple(logits.shape)}")
        landmarks = None
        if return_scores:
            if id2label is None:
                raise ValueError(
                    "return_scores needs the classes' names: pass id2label=model.config.id2label"
                )
            landmarks = LandmarkTable.from_id2label(id2label)
        sizes = _target_sizes(target_sizes, logits)

        results = []
        for index, (frame_logits, size) in enumerate(zip(logits, sizes, strict=True)):
            name = f"logits[{index}]"
            segmentation = class_map(frame_logits, size, interpolation, name=name)
            result: dict[str, Any] = {"segmentation": segmentation.to(torch.int64)}
            if return_segmentation_scores:
                result["segmentation_scores"] = upsample(frame_logits, size, interpolation)
            if landmarks is not None:
                names = landmarks.class_names if score_classes is None else score_classes
                result["scores"] = landmark_scores(
                    frame_logits, segmentation, landmarks, names, interpolation, name=name
                )
            results.append(result)
        if return_segmentation_scores:
            return [SemanticSegmentationPostProcessorOutput(data=result) for result in results]
        return results if return_scores else [result["segmentation"] for result in results]

    def post_process_curves(
        self,
        outputs: Any,
        target_sizes: Sequence[tuple[int, int]] | torch.Tensor | None = None,
        *,
        id2label: Mapping[int, str],
        threshold: float = 0.5,
    ) -> list[list[dict[str, Any]]]:
        """The polylines that a model with the decoder `"curve"` has found, in px of each frame.

        Args:
            outputs: What the model returned: `outputs.curve_points` (B, Q, N, 2) and
                `outputs.curve_logits` (B, Q, C).
            target_sizes: B pairs (height, width), px; None: the logits' own size.
            id2label: `model.config.id2label`.
            threshold: A curve is given where the probability of its class is at least this.

        Returns:
            For each frame its curves, the surest first: {"category": name, "points": (N, 2) float32 x, y in
            px, integers naming pixel centers, in order along the curve, "score": probability of the class}.

        Raises:
            ValueError: a model whose decoder gives no curves, sizes or names that do not fit, or a threshold
                that is no probability.
        """
        if getattr(outputs, "curve_points", None) is None:
            raise ValueError(
                "the model's decoder gives no curves: train one of decoder_type curve, or trace the class "
                "map with liver_landmark.curves.trace_polylines"
            )
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be 0 to 1, got {threshold}")
        names = LandmarkTable.from_id2label(id2label).class_names
        if len(names) != outputs.curve_logits.shape[-1]:
            raise ValueError(f"{outputs.curve_logits.shape[-1]} classes of curves for {len(names)} names")
        sizes = _target_sizes(target_sizes, outputs.logits)
        probabilities = outputs.curve_logits.detach().float().softmax(dim=-1)
        # The background is no curve.
        scores, classes = probabilities[..., 1:].max(dim=-1)
        frames = []
        for points, score, found, (height, width) in zip(
            outputs.curve_points.detach().float(), scores, classes, sizes, strict=True
        ):
            px = points * points.new_tensor([width, height]) - 0.5
            curves = [
                {"category": names[int(found[q]) + 1], "points": px[q], "score": float(score[q])}
                for q in score.argsort(descending=True).tolist()
                if float(score[q]) >= threshold
            ]
            frames.append(curves)
        return frames


def _validated_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The fields in the types that JSON gives them back in; a ValueError names the wrong one."""
    settings = dict(settings)
    for name in ("do_convert_rgb", "do_resize", "do_rescale", "do_normalize"):
        if not isinstance(settings[name], bool):
            raise ValueError(f"{name}={settings[name]!r}: expected true or false")
    settings["size"] = _size_dict(settings["size"], "size")
    if settings["label_size"] is not None:
        settings["label_size"] = _size_dict(settings["label_size"], "label_size")
    if settings["resample"] not in _RESAMPLE_MODES:
        raise ValueError(f"resample={settings['resample']!r}: choose 2 (bilinear) or 3 (bicubic)")
    settings["resample"] = int(settings["resample"])
    for name in ("image_mean", "image_std"):
        given = settings[name]
        values = [float(given)] * 3 if isinstance(given, Real) else [float(value) for value in given]
        if len(values) != 3 or not all(map(math.isfinite, values)):
            raise ValueError(f"{name}={settings[name]!r}: expected three finite numbers")
        settings[name] = values
    if min(settings["image_std"]) <= 0:
        raise ValueError(f"image_std={settings['image_std']!r}: must be positive")
    if settings["max_pixels"] < 1:
        raise ValueError(f"max_pixels={settings['max_pixels']!r}: must be positive")
    return settings


def _size_dict(size: Any, name: str) -> dict[str, int]:
    if isinstance(size, int) and not isinstance(size, bool):
        size = {"height": size, "width": size}
    elif isinstance(size, SizeDict):
        size = dict(size)
    elif isinstance(size, (tuple, list)) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    if not isinstance(size, Mapping) or set(size) != {"height", "width"}:
        raise ValueError(f"{name}={size!r}: expected {{'height': …, 'width': …}} in px")
    # torch 2.13's antialiased resize to a width of 1 is silently wrong, or asserts.
    if not all(isinstance(value, Integral) and value >= 2 for value in size.values()):
        raise ValueError(f"{name}={size!r}: height and width must be integers of at least 2")
    return {"height": int(size["height"]), "width": int(size["width"])}


def _check_is_rgb(image: Any, pixels: torch.Tensor, name: str) -> None:
    """Raises a ValueError where reading the image as `pixels` has changed its channels."""
    if isinstance(image, Image.Image):
        is_rgb, found = image.mode == "RGB", f"mode {image.mode}"
    else:
        is_rgb = pixels.shape[0] == 3 and pixels.numel() == math.prod(image.shape)
        found = f"shape {tuple(image.shape)}"
    if not is_rgb:
        raise ValueError(f"{name}: {found} is not RGB, and do_convert_rgb is off")


def _prepare_pixels(pixels: torch.Tensor, name: str, settings: dict[str, Any]) -> torch.Tensor:
    """(1 or 3, H, W) in its own range -> (3, height, width) float32, resized, rescaled, normalized."""
    scale = 1.0
    if settings["do_rescale"]:
        scale = settings["rescale_factor"] * _TO_8_BIT_RANGE[pixels.dtype]
        if pixels.dtype == torch.float32:
            low, high = (value.item() for value in pixels.aminmax())
            if low < -_FLOAT_SLACK or high > 1 + _FLOAT_SLACK:
                raise ValueError(
                    f"{name}: float values {low:.4g}..{high:.4g}: expected 0..1; "
                    "convert 0..255 to uint8, or pass do_rescale=False"
                )
    # Only the CPU has an 8-bit antialiased kernel; it is four times faster there than the float one.
    if pixels.dtype != torch.uint8 or pixels.device.type != "cpu":
        pixels = pixels.to(torch.float32)
    size = (settings["size"]["height"], settings["size"]["width"])
    if settings["do_resize"] and tuple(pixels.shape[-2:]) != size:
        mode = _RESAMPLE_MODES[settings["resample"]]
        pixels = F.interpolate(pixels[None], size=size, mode=mode, align_corners=False, antialias=True)[0]
    # One multiplication and one addition instead of rescale, subtract and divide.
    mean, std = np.zeros(3), np.ones(3)
    if settings["do_normalize"]:
        mean, std = np.asarray(settings["image_mean"]), np.asarray(settings["image_std"])
    gain, bias = (
        torch.tensor(values, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
        for values in (scale / std, -mean / std)
    )
    return torch.addcmul(bias, pixels.to(torch.float32), gain).contiguous()


def _resize_map(ids: torch.Tensor, settings: dict[str, Any]) -> torch.Tensor:
    """(H, W) uint8 ids -> int64 at the labels' size; a pixel takes the id of the one its center falls in."""
    size = settings["label_size"] or (settings["size"] if settings["do_resize"] else None)
    if size is None:
        return ids.to(torch.int64)
    # In integers: exact at any size, where a float factor may fall to the wrong side of an edge.
    rows, columns = (
        ((2 * torch.arange(new, device=ids.device) + 1) * old) // (2 * new)
        for new, old in zip((size["height"], size["width"]), ids.shape, strict=True)
    )
    return ids.index_select(0, rows).index_select(1, columns).to(torch.int64)


def _stack(tensors: list[torch.Tensor], argument: str) -> torch.Tensor:
    for index, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise ValueError(
                f"{argument}[{index}]: {size_text(tensor.shape[-2:])} px beside "
                f"{size_text(tensors[0].shape[-2:])} px: a batch has one size; turn do_resize on"
            )
        if tensor.device != tensors[0].device:
            raise ValueError(f"{argument}[{index}]: on {tensor.device}, the first one on {tensors[0].device}")
    return torch.stack(tensors)


def _target_sizes(target_sizes: Any, logits: torch.Tensor) -> list[tuple[int, int]]:
    """One (height, width) for each frame of the logits."""
    if target_sizes is None:
        return [tuple(logits.shape[-2:])] * len(logits)
    if isinstance(target_sizes, torch.Tensor):
        target_sizes = target_sizes.tolist()
    if len(target_sizes) != len(logits):
        raise ValueError(f"target_sizes: {len(target_sizes)} sizes for {len(logits)} frames of logits")
    sizes = []
    for index, size in enumerate(target_sizes):
        if len(size) != 2 or not all(int(value) == value and value > 0 for value in size):
            raise ValueError(f"target_sizes[{index}]={size!r}: expected (height, width) in px")
        sizes.append((int(size[0]), int(size[1])))
    return sizes


# What the image processor takes in: any image as pixels, any map as class ids, or a one-line error.

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
    """A decoded image as (H, W) of gray or (H, W, 3) of RGB; 16 bits and floats keep their depth."""
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
            raise ValueError(f"{name}: mode {mask.mode}: expected class ids in mode L or P, not colors")
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


LiverLandmarkImageProcessor.register_for_auto_class()


__all__ = ["LiverLandmarkImageProcessor", "as_batch", "describe_input", "read_image", "read_map", "size_text"]
