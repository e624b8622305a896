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
from torch.utils.data import DataLoader, Dataset, Sampler

from ..curves import PROTOCOLS
from ..data.augmentation import Augmentation, LabeledFrame
from ..data.loading import RowError, read_row
from ..data.schema import landmarks_of
from ..model.landmarks_liver_landmark import LandmarkTable

# `depth`, `regions` and the rest would be decoded for nothing.
_ROW_COLUMNS = ("image", "label", "landmarks", "width", "height", "protocol", "frame_id")

# A frame of an epoch: the augmentation is drawn from both.
EpochIndex = tuple[int, int]


class FrameOrder(Sampler[list[EpochIndex]]):
    """The endless order of frames: one permutation after another, cut into batches.

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
    ) -> None:
        if num_frames < 1:
            raise ValueError("the train split holds no frames")
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
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.num_frames)
                batch.append((epoch, int(order[offset % self.num_frames])))
            yield batch
            position += global_batch


class TrainingFrames(Dataset):
    """Rows of a dataset of the schema as augmented frames with masks and polylines.

    Args:
        rows: The train split, with labels.
        augmentation: Applied to each frame by (epoch, index).
        landmarks: Those of the model, in whose ids the masks come: by name, whatever ids the dataset has for
            them. What the dataset shows besides is background. None: the dataset's.
        cache: Decode every frame now and keep it: H x W x 4 bytes a frame, and its polylines.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        augmentation: Augmentation,
        landmarks: LandmarkTable | None = None,
        cache: bool = False,
    ) -> None:
        self.stored = landmarks_of(rows.features)
        self.landmarks = self.stored if landmarks is None else landmarks
        missing = [name for name in self.landmarks.names if name not in self.stored.names]
        if missing:
            raise ValueError(
                f"the dataset has no landmark {missing[0]!r} (there are: {', '.join(self.stored.names)})"
            )
        self.rows = rows.select_columns(list(_ROW_COLUMNS))
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
        return LabeledFrame(image, mask, landmarks, protocol, self.stored.names)

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


class ProcessorCollate:
    """Turns a list of frames into the model's inputs, by the processor that inference uses too."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, frames: Sequence[LabeledFrame]) -> dict[str, torch.Tensor]:
        images, masks = [frame.image for frame in frames], [frame.mask for frame in frames]
        return dict(self.processor(images=images, segmentation_maps=masks, return_tensors="pt"))


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
    frames: TrainingFrames, order: FrameOrder, processor: Any, workers: int, pin_memory: bool
) -> DataLoader:
    """An endless loader of {"pixel_values": (B, 3, H, W), "labels": (B, H, W)}."""
    return DataLoader(
        frames,
        batch_sampler=order,
        collate_fn=ProcessorCollate(processor),
        num_workers=workers,
        multiprocessing_context=_clean_processes() if workers else None,
        worker_init_fn=_use_one_thread,
        pin_memory=pin_memory,
        # Its own generator: the loader's draw of worker seeds must not shift the dropout's.
        generator=torch.Generator().manual_seed(order.seed),
    )
