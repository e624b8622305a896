"""Counts of a set, as its card tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from .schema import SPLITS

# Of the table that names a set's files with their hashes.
FILES_HEADER = ("file", "SHA-256")


@dataclass
class SetCounts:
    """What is counted of a set's frames.

    Attributes:
        names: The set's landmarks, in the order of their ids.
        frames: Split -> frames.
        patients: Split -> patients.
        frames_with: Landmark -> frames that show it.
        combinations: Landmarks of a frame, in the order of their ids -> frames that show just these.
        sizes: (width, height) in px -> frames of that size.
    """

    names: Sequence[str] = DEFAULT_LANDMARKS.names
    frames: Counter[str] = field(default_factory=Counter)
    patients: dict[str, set[str]] = field(default_factory=lambda: {split: set() for split in SPLITS})
    frames_with: Counter[str] = field(default_factory=Counter)
    combinations: Counter[tuple[str, ...]] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, split: str, patient_id: str, landmarks: Collection[str], width: int, height: int) -> None:
        """Counts one frame, `landmarks` naming those that it shows."""
        self.frames[split] += 1
        self.patients[split].add(patient_id)
        self.frames_with.update(set(landmarks))
        self.combinations[tuple(name for name in self.names if name in landmarks)] += 1
        self.sizes[width, height] += 1

    def tables(self) -> dict[str, str]:
        """For a card: `frames`, `patients`, and tables `splits`, `classes`, `combinations`, `sizes`."""
        total = sum(self.frames.values())
        splits = [
            f"| {split} | {len(self.patients[split])} | {self.frames[split]} |"
            for split in SPLITS
            if self.frames[split]
        ]
        classes = [
            f"| {name} | {self.frames_with[name]} | {self.frames_with[name] / max(total, 1):.1%} |"
            for name in self.names
        ]
        # The most frequent first; of equally many the one with more landmarks.
        combinations = [
            f"| {' + '.join(names) or 'none'} | {count} |"
            for names, count in sorted(
                self.combinations.items(), key=lambda item: (-item[1], -len(item[0]), item[0])
            )
        ]
        sizes = [
            f"| {width} × {height} | {count} |"
            for (width, height), count in sorted(self.sizes.items(), key=lambda item: (-item[1], item[0]))
        ]
        return {
            "frames": str(total),
            "patients": str(sum(len(names) for names in self.patients.values())),
            "splits": "\n".join(["| split | patients | frames |", "|---|---|---|", *splits]),
            "classes": "\n".join(["| landmark | frames with it | share |", "|---|---|---|", *classes]),
            "combinations": "\n".join(["| landmarks of a frame | frames |", "|---|---|", *combinations]),
            "sizes": "\n".join(["| width × height, px | frames |", "|---|---|", *sizes]),
        }


def dataset_info(sizes: Mapping[str, int], frames: Mapping[str, int]) -> str:
    """YAML with the size of each split.

    `datasets` knows a folder in its cache by the folder's card and not by its files: without the sizes
    in it, a set that was rebuilt in the same place would be read as it was before.

    Args:
        sizes: Split -> bytes of its files.
        frames: Split -> frames.
    """
    lines = ["dataset_info:", "- config_name: default", "  splits:"]
    for split in (split for split in SPLITS if frames.get(split)):
        lines += [
            f"  - name: {split}",
            f"    num_bytes: {sizes[split]}",
            f"    num_examples: {frames[split]}",
        ]
    total = sum(sizes[split] for split in SPLITS if frames.get(split))
    return "\n".join([*lines, f"  download_size: {total}", f"  dataset_size: {total}"])


def data_files(frames: Mapping[str, int]) -> str:
    """YAML of the splits that there are: `datasets` refuses a pattern that no file matches."""
    lines = []
    for split in (split for split in SPLITS if frames.get(split)):
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    return "\n".join(lines)
