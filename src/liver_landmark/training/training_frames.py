"""Training frames: in which order they come, and how rows of a dataset become batches."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import datasets
import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from ..curves import PROTOCOLS
from ..data.augmentation import Augmentation, LabeledFrame
from ..data.loading import RowError, read_row
from ..data.schema import landmarks_of
from ..model.landmarks_liver_landmark import LandmarkTable

# `depth` where it is wanted; `regions` and the rest would be decoded for nothing.
_ROW_COLUMNS = ("image", "label", "landmarks", "width", "height", "protocol", "frame_id")

# A frame of an epoch: the augmentation is drawn from both.
EpochIndex = tuple[int, int]


class FrameOrder(Sampler[list[EpochIndex]]):
    """The endless order of frames: one permutation after another, cut into batches.

    With weights, an epoch draws as many frames as there are, with replacement, each as often as it weighs.
    A batch may span two epochs, so that no frame is left out and every batch is full. The order is a
    function of the seed alone: a run that starts at `first_batch` goes on as if it had never stopped.
    Of each global batch, a process takes its own slice.
    """

    def __init__(
        self,
        num_frames: int,
        batch_size: int,
        seed: int,
        first_batch: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:
        if num_frames < 1:
            raise ValueError("the train split holds no frames")
        self.weights = None if weights is None else weights / weights.sum()
        self.num_frames = num_frames
        self.batch_size = batch_size
        self.seed = seed
        self.first_batch = first_batch
        self.process_index = process_index
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        global_batch = self.batch_size * self.num_processes
        position = self.first_batch * global_batch + self.process_index * self.batch_size
        epoch, order = -1, np.empty(0, dtype=np.int64)
        while True:
            batch = []
            for offset in range(position, position + self.batch_size):
                if offset // self.num_frames != epoch:
                    epoch = offset // self.num_frames
                    order = self._order_of(epoch)
                batch.append((epoch, int(order[offset % self.num_frames])))
            yield batch
            position += global_batch

    def _order_of(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        if self.weights is None:
            return rng.permutation(self.num_frames)
        return rng.choice(self.num_frames, self.num_frames, p=self.weights)


def balancing_weights(rows: datasets.Dataset) -> np.ndarray:
    """(frames,) how often each is to come: as its rarest landmark asks for.

    A landmark asks for the share of frames that do not show it over the share of those that do, at least 1
    and at most 4; a frame without landmarks weighs 1.
    """
    shown = [{line["category"] for line in lines or ()} for lines in rows["landmarks"]]
    count = len(landmarks_of(rows.features).names)
    shares = [sum(number in frame for frame in shown) / max(1, len(shown)) for number in range(count)]
    asked = [min(4.0, max(1.0, (1 - share) / share)) if share else 1.0 for share in shares]
    return np.array([max([asked[number] for number in frame], default=1.0) for frame in shown])


class TrainingFrames(Dataset):
    """Rows of a dataset of the schema as augmented frames with masks and polylines.

    Args:
        rows: The train split, with labels.
        augmentation: Applied to each frame by (epoch, index).
        landmarks: Those of the model, in whose ids the masks come: by name, whatever ids the dataset has for
            them. What the dataset shows besides is background. None: the dataset's.
        cache: Decode every frame now and keep it: H x W x 4 bytes a frame (with depth, 8), and its
            polylines.
        with_depth: Give each frame's inverse depth too; unknown everywhere where the dataset has none.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        augmentation: Augmentation,
        landmarks: LandmarkTable | None = None,
        cache: bool = False,
        with_depth: bool = False,
    ) -> None:
        self.with_depth = with_depth
        self.stored = landmarks_of(rows.features)
        self.landmarks = self.stored if landmarks is None else landmarks
        missing = [name for name in self.landmarks.names if name not in self.stored.names]
        if missing:
            raise ValueError(
                f"the dataset has no landmark {missing[0]!r} (there are: {', '.join(self.stored.names)})"
            )
        self.rows = rows.select_columns([*_ROW_COLUMNS, *(["depth"] if with_depth else [])])
        self.augmentation = augmentation
        self.cached = [self._decode(index) for index in range(len(rows))] if cache else None

    def __len__(self) -> int:
        return len(self.rows)

    def _decode(self, index: int) -> LabeledFrame:
        row = read_row(self.rows, index)
        image = np.asarray(row["image"].convert("RGB"))
        mask = np.asarray(row["label"])
        if mask.dtype != np.uint8 or mask.shape != image.shape[:2]:
            raise RowError(
                f"frame {row['frame_id']}: label {mask.shape} {mask.dtype} does not fit image "
                f"{image.shape[:2]}: expected class ids in mode L at the image's size"
            )
        landmarks = tuple(
            landmark | {"points": np.array(landmark["points"], dtype=np.float64).reshape(-1, 2)}
            for landmark in row["landmarks"] or ()
        )
        # Where no geometry is drawn they are not looked at: a bad row would show in some epochs only.
        if not all(np.isfinite(landmark["points"]).all() for landmark in landmarks):
            raise RowError(f"frame {row['frame_id']}: a point of its landmarks is not finite")
        # Labels that no protocol has drawn (AS_DRAWN) cannot be redrawn, only moved.
        protocol = row["protocol"] if row["protocol"] in PROTOCOLS else None
        inverse_depth = _inverse_depth(row, mask.shape) if self.with_depth else None
        return LabeledFrame(image, mask, landmarks, protocol, self.stored.names, inverse_depth)

    def __getitem__(self, key: EpochIndex) -> LabeledFrame:
        epoch, index = key
        frame = self._decode(index) if self.cached is None else self.cached[index]
        return self._by_name(self.augmentation(frame, epoch, index))

    def _by_name(self, frame: LabeledFrame) -> LabeledFrame:
        """The frame in the model's ids."""
        if self.landmarks.names == self.stored.names:
            return frame
        names = self.landmarks.names
        named = [line | {"category": self.stored.names[line["category"]]} for line in frame.landmarks]
        return replace(
            frame,
            mask=self.landmarks.translate(frame.mask, self.stored),
            landmarks=tuple(line for line in named if line["category"] in names),
            names=names,
        )


def _inverse_depth(row: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float32: 1 / depth, 0 where the row's depth is 0 or not finite, or where it has none."""
    if row["depth"] is None:
        return np.zeros(shape, np.float32)
    depth = np.asarray(row["depth"], dtype=np.float32)
    if depth.shape != shape:
        raise RowError(f"frame {row['frame_id']}: depth {depth.shape} does not fit image {shape}")
    known = np.isfinite(depth) & (depth > 0)
    return np.divide(1, depth, out=np.zeros(shape, np.float32), where=known)


class ProcessorCollate:
    """Turns a list of frames into the model's inputs, by the processor that inference uses too.

    Args:
        processor: The model's image processor.
        with_landmarks: Give the curves too, as the model's `forward` takes them.
    """

    def __init__(self, processor: Any, with_landmarks: bool = False) -> None:
        self.processor = processor
        self.with_landmarks = with_landmarks

    def __call__(self, frames: Sequence[LabeledFrame]) -> dict[str, Any]:
        images, masks = [frame.image for frame in frames], [frame.mask for frame in frames]
        batch = dict(self.processor(images=images, segmentation_maps=masks, return_tensors="pt"))
        if self.with_landmarks:
            batch["landmarks"] = [relative_landmarks(frame) for frame in frames]
        if frames[0].inverse_depth is not None:
            # At the labels' size, whatever the frames' are.
            size = batch["labels"].shape[-2:]
            planes = (torch.from_numpy(frame.inverse_depth)[None, None] for frame in frames)
            resized = [F.interpolate(plane, size=size, mode="nearest-exact")[0, 0] for plane in planes]
            batch["depth_labels"] = torch.stack(resized)
        return batch


def relative_landmarks(frame: LabeledFrame) -> list[dict[str, Any]]:
    """A frame's curves with class ids, and points in shares of its width and height."""
    height, width = frame.mask.shape
    curves = []
    for landmark in frame.landmarks:
        category, points = landmark["category"], np.asarray(landmark["points"], dtype=np.float64)
        number = category if isinstance(category, int) else frame.names.index(category)
        # Integers name pixel centers.
        shares = torch.from_numpy((points + 0.5) / (width, height)).float()
        curves.append({"category": number + 1, "points": shares})
    return curves


def _use_one_thread(worker: int) -> None:
    """Workers are parallel by themselves; OpenCV's threads would fight the training for the cores."""
    cv2.setNumThreads(1)


def _clean_processes() -> multiprocessing.context.BaseContext:
    """Starts workers that are no forks of the training process.

    Those would inherit OpenCV's and PyTorch's thread pools without their threads, and wait for them
    for ever. Where there is a fork server, it imports this module once for all workers.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def build_loader(
    frames: TrainingFrames,
    order: FrameOrder,
    processor: Any,
    workers: int,
    pin_memory: bool,
    with_landmarks: bool = False,
) -> DataLoader:
    """An endless loader of {"pixel_values": (B, 3, H, W), "labels": (B, H, W)}.

    With `landmarks` where they are asked for, and `depth_labels` (B, H, W) where the frames have depth.
    """
    return DataLoader(
        frames,
        batch_sampler=order,
        collate_fn=ProcessorCollate(processor, with_landmarks),
        num_workers=workers,
        multiprocessing_context=_clean_processes() if workers else None,
        worker_init_fn=_use_one_thread,
        pin_memory=pin_memory,
        # Its own generator: the loader's draw of worker seeds must not shift the dropout's.
        generator=torch.Generator().manual_seed(order.seed),
    )
