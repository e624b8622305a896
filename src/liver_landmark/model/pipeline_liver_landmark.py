"""The pipeline task "liver-landmark-segmentation": frames in, a mask and scores for each landmark out."""

from __future__ import annotations

import base64
import binascii
import io
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset
from transformers import Pipeline
from transformers.modeling_outputs import SemanticSegmenterOutput

from .image_processing_liver_landmark import read_image
from .presence_liver_landmark import absent_suppressed

TASK = "liver-landmark-segmentation"

# Of a file that is fetched; an uncompressed 8K frame has 100 MB.
MAX_DOWNLOAD_BYTES = 2**28
_TIMEOUT_S = 60.0


def custom_pipelines() -> dict[str, dict[str, Any]]:
    """What config.json says for `pipeline` to find this class beside it."""
    impl = f"pipeline_liver_landmark.{LiverLandmarkSegmentationPipeline.__name__}"
    return {TASK: {"impl": impl, "pt": ["AutoModelForSemanticSegmentation"], "type": "image"}}


class LiverLandmarkSegmentationPipeline(Pipeline):
    """Landmarks in laparoscopic frames.

    >>> import liver_landmark  # doctest: +SKIP
    >>> from transformers import pipeline  # doctest: +SKIP
    >>> segment = pipeline("liver-landmark-segmentation", model="outputs/quickstart/best")  # doctest: +SKIP
    >>> [(part["label"], part["present"]) for part in segment("frame.jpg")]  # doctest: +SKIP
    [('ridge', True), ('silhouette', True), ('ligament', False)]
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_video_processor = False  # where it is optional, transformers asks for trust_remote_code
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # `pipeline` replaces names in the configuration by classes, which no JSON can hold.
        if hasattr(self.model.config, "custom_pipelines"):
            self.model.config.custom_pipelines = custom_pipelines()

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Segments one frame or many.

        Args:
            inputs: A frame, or a list, a generator, a `datasets.Dataset` with the column `image` or a column
                of one, or transformers' KeyDataset. A frame is the path of a file, a link (http, https),
                base64 text, a PIL image, an array or tensor that the image processor takes, or a mapping that
                has it under `image`. EXIF orientation is applied; files are checked for their number of
                pixels before they are decoded.
            batch_size: Frames in one forward pass (default 1).
            timeout: Seconds to wait for a server (default 60).

        Returns:
            For one frame a list of dicts, one for each landmark of the model in the order of its ids:

            - `label`, and `id`, the class id;
            - `score`: mean probability over its mask's pixels, 0.0 where there are none;
            - `presence`: probability that it is in the frame at all, calibrated where the model carries a
              calibration;
            - `present`: whether it is: with a calibration, where `presence` reaches its threshold; a landmark
              that is not present has an empty mask;
            - `mask`: PIL image of mode L, 0 or 255, at the frame's own size, upright. No two masks overlap;
              `index_mask` joins them.

            For a list a list of those, for a generator or data set an iterator of them.

        Raises:
            ValueError: a frame that cannot be read, in one line.
            FileNotFoundError: a path where no file is.
        """
        if isinstance(inputs, list | tuple):
            return super().__call__(list(inputs), **kwargs) if inputs else []
        if hasattr(inputs, "select_columns"):  # of datasets, which this file cannot import
            names = inputs.column_names
            if names is not None and "image" not in names:
                raise ValueError(f"the data set has no column 'image' (there are: {', '.join(names)})")
            inputs = inputs.select_columns(["image"])  # a row's other pictures need not be decoded
            inputs = _Frames(inputs) if hasattr(inputs, "__len__") else (row for row in inputs)
        elif isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes):
            inputs = _Frames(inputs)
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, timeout: float | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise TypeError(f"{TASK}: unknown argument {next(iter(unknown))!r}")
        return ({} if timeout is None else {"timeout": timeout}), {}, {}

    def preprocess(self, input_: Any, timeout: float = _TIMEOUT_S) -> dict[str, Any]:
        """A frame as model inputs, with its size."""
        frame, name = _open_frame(input_, timeout)
        pixels = read_image(frame, name, None, self.image_processor.max_pixels)
        inputs = self.image_processor(pixels, return_tensors="pt", input_data_format="channels_first")
        return {
            "pixel_values": inputs["pixel_values"].to(self.dtype),
            "target_size": [tuple(pixels.shape[-2:])],
        }

    def _forward(self, input_tensors: dict[str, Any]) -> dict[str, Any]:
        outputs = self.model(pixel_values=input_tensors["pixel_values"], return_dict=True)
        return {"logits": outputs.logits, "target_size": input_tensors["target_size"]}

    def postprocess(self, model_outputs: Any) -> list[dict[str, Any]]:
        """The landmarks of one frame, as `__call__` returns them."""
        calibration = getattr(self.model.config, "presence_calibration", None)
        table = self.model.config.landmark_table
        logits, presence, present = absent_suppressed(
            model_outputs["logits"].float(), calibration, table.names
        )
        [result] = self.image_processor.post_process_semantic_segmentation(
            SemanticSegmenterOutput(logits=logits),
            target_sizes=model_outputs["target_size"],
            return_scores=True,
            id2label=table.id2label,
            score_classes=table.names,
        )
        segmentation = result["segmentation"].cpu().numpy()
        landmarks = []
        for landmark, probability, is_present in zip(
            table.landmarks, presence[0].tolist(), present[0].tolist(), strict=True
        ):
            mask = np.where(segmentation == landmark.id, np.uint8(255), np.uint8(0))
            if calibration is None:
                # Between two places of the logits another class can win than at either.
                is_present = bool(mask.any())
            landmarks.append(
                {
                    "label": landmark.name,
                    "id": landmark.id,
                    "score": float(result["scores"][landmark.name]),
                    "presence": probability,
                    "present": is_present,
                    "mask": Image.fromarray(mask),
                }
            )
        return landmarks

    @staticmethod
    def index_mask(landmarks: Sequence[Mapping[str, Any]]) -> Image.Image:
        """The masks of one frame, as `__call__` returns them, as one image of class ids in mode L."""
        ids = sum(np.asarray(part["mask"]) // 255 * np.uint8(part["id"]) for part in landmarks)
        return Image.fromarray(ids)


class _Frames(Dataset):
    """A sequence as the data set that transformers' pipelines stream."""

    def __init__(self, frames: Any) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Any:
        return self.frames[index]


def _open_frame(source: Any, timeout: float) -> tuple[Any, str]:
    """A PIL image whose pixels are not decoded yet, or the array as it came; and what errors call it."""
    if isinstance(source, Mapping):
        if "image" not in source:
            raise ValueError(f"frame: a mapping without 'image' (it has: {', '.join(map(str, source))})")
        source = source["image"]
    if isinstance(source, Path):
        source = str(source)
    if isinstance(source, Image.Image | np.ndarray | torch.Tensor):
        return source, "frame"
    if not isinstance(source, str):
        raise ValueError(
            f"frame: {type(source).__name__}; expected a path, a link, a PIL image, an array or a tensor"
        )
    if source.startswith(("http://", "https://")):
        file, name = io.BytesIO(_download(source, timeout)), source
    elif os.path.isfile(source):
        file, name = source, source
    else:
        file, name = io.BytesIO(_decode_base64(source)), f"{source[:100]} (no file, so read as base64)"
    try:
        return Image.open(file), name
    except UnidentifiedImageError as error:
        raise ValueError(f"{name}: not an image of a known format") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: cannot be opened: {' '.join(str(error).split())}") from error


def _download(link: str, timeout: float) -> bytes:
    request = urllib.request.Request(link, headers={"User-Agent": TASK})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            data = answer.read(MAX_DOWNLOAD_BYTES + 1)
    except (OSError, ValueError) as error:  # URLError, HTTPError and timeouts are OSErrors
        raise ValueError(f"{link}: cannot be fetched: {' '.join(str(error).split())}") from error
    if len(data) > MAX_DOWNLOAD_BYTES:
        raise ValueError(f"{link}: larger than {MAX_DOWNLOAD_BYTES} bytes")
    return data


def _decode_base64(text: str) -> bytes:
    """The bytes of base64 text or of a data link; what is neither was meant as a path."""
    content = text.partition(",")[2] if text.startswith("data:image/") else text
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FileNotFoundError(f"{text[:100]}: no such file") from error
