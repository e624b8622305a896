"""What a dataset holds, counted and plotted: frames, classes, curves and their lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm

from ..model.landmarks_liver_landmark import IGNORE_INDEX, LandmarkTable
from ..utils.atomic_files import atomic_path, write_json
from .loading import FlatPolylines, RowError, flatten_polylines
from .schema import landmarks_of

# ----------------------------------------------------------------------------------------------------
# What a set holds, counted: frames, classes and which of them occur together, curves and their lengths.

_LABEL_COLUMNS = ["label", "landmarks", "width", "height", "protocol", "frame_id"]
_PERCENTILES = {"min": 0, "p5": 5, "median": 50, "p95": 95, "max": 100}
NO_LANDMARK = "none"


@dataclass(frozen=True)
class SplitStatistics:
    """The counts of one split.

    Attributes:
        summary: JSON values, for stats.json: `frames`, `patients`, `sources`, `protocols`, `frame_sizes`,
            `frames_with` and `combinations` (classes by their polylines), `polylines_per_frame` (of the
            frames that show the class), `points_per_polyline`, `stroke_length_px`,
            `stroke_length_diagonals`, `pixel_share` (of the pixels that are not ignored) and `ignored_share`.
        stroke_length_diagonals: Class -> length of each of its polylines, as a share of the diagonal of its
            frame.
    """

    summary: dict[str, Any]
    stroke_length_diagonals: dict[str, np.ndarray]


def split_statistics(rows: datasets.Dataset, progress: bool = False) -> SplitStatistics:
    """Counts one split of a dataset of the schema.

    Args:
        rows: As `load_landmark_dataset` gives them.
        progress: Show a progress bar on stderr, for the labels are decoded.

    Raises:
        RowError: a label that cannot be read.
    """
    table = rows.data
    landmarks = landmarks_of(rows.features)
    names = landmarks.names
    polylines = flatten_polylines(table.column("landmarks"))
    width, height = (table.column(side).to_numpy().astype(np.int64) for side in ("width", "height"))
    lengths_px = polylines.lengths_px()
    lengths_diagonals = lengths_px / np.hypot(width, height)[polylines.row]
    shows = np.zeros((len(rows), len(names)), bool)
    shows[polylines.row, polylines.category] = True
    combinations = Counter(_combination(shown, names) for shown in shows)
    patients = zip(*(table.column(name).to_pylist() for name in ("source", "patient_id")), strict=True)
    summary = {
        "frames": len(rows),
        "patients": len(set(patients)),
        "sources": _counts(table.column("source").to_pylist()),
        "protocols": _counts(table.column("protocol").to_pylist()),
        "frame_sizes": _counts(f"{w}x{h}" for w, h in zip(width.tolist(), height.tolist(), strict=True)),
        "frames_with": dict(zip(names, shows.sum(axis=0).tolist(), strict=True)),
        "combinations": dict(combinations.most_common()),
        "polylines_per_frame": _by_class(names, _polylines_per_frame(polylines, len(rows), len(names))),
        "points_per_polyline": _summaries(names, polylines, polylines.count),
        "stroke_length_px": _summaries(names, polylines, lengths_px),
        "stroke_length_diagonals": _summaries(names, polylines, lengths_diagonals),
        **_pixel_shares(rows, landmarks, progress),
    }
    by_class = {name: lengths_diagonals[polylines.category == index] for index, name in enumerate(names)}
    return SplitStatistics(summary, by_class)


def _combination(shown: np.ndarray, names: Sequence[str]) -> str:
    return " + ".join(name for name, there in zip(names, shown, strict=True) if there) or NO_LANDMARK


def _counts(values: Any) -> dict[str, int]:
    """Value -> how often, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _polylines_per_frame(polylines: FlatPolylines, frames: int, classes: int) -> list[np.ndarray]:
    """For each class the number of its polylines in each frame that has any."""
    counts = []
    for index in range(classes):
        in_frame = np.bincount(polylines.row[polylines.category == index], minlength=frames)
        counts.append(in_frame[in_frame > 0])
    return counts


def _summaries(names: Sequence[str], polylines: FlatPolylines, values: np.ndarray) -> dict[str, Any]:
    return _by_class(names, [values[polylines.category == index] for index in range(len(names))])


def _by_class(names: Sequence[str], values: list[np.ndarray]) -> dict[str, Any]:
    """Class -> percentiles and mean of its values; None where it has none."""
    found = {}
    for name, of_class in zip(names, values, strict=True):
        if len(of_class) == 0:
            found[name] = None
            continue
        percentiles = np.percentile(of_class, list(_PERCENTILES.values()))
        found[name] = {
            "mean": float(np.mean(of_class)),
            **{key: float(value) for key, value in zip(_PERCENTILES, percentiles, strict=True)},
        }
    return found


def _pixel_shares(rows: datasets.Dataset, landmarks: LandmarkTable, progress: bool) -> dict[str, Any]:
    """Shares over all frames together: a large frame counts for its pixels."""
    labels = rows.select_columns(_LABEL_COLUMNS)
    counts = np.zeros(256, np.int64)
    for index in tqdm(range(len(labels)), unit="label", disable=not progress):
        counts += np.bincount(_read_label(labels, index).ravel(), minlength=256)
    total, ignored = int(counts.sum()), int(counts[IGNORE_INDEX])
    scored = total - ignored
    return {
        "pixel_share": {
            name: int(counts[class_id]) / scored if scored else None
            for class_id, name in landmarks.id2label.items()
        },
        "ignored_share": ignored / total if total else None,
    }


def _read_label(labels: datasets.Dataset, index: int) -> np.ndarray:
    try:
        row = labels[index]
    # What Pillow raises on broken files, and the drawing of labels where there is nothing to draw.
    except (OSError, SyntaxError, ValueError) as error:
        raise RowError(f"row {index}: its label cannot be read ({' '.join(str(error).split())})") from error
    label = np.asarray(row["label"])
    if label.ndim != 2 or label.dtype != np.uint8:
        raise RowError(
            f"frame {row['frame_id']} (row {index}): its label is a picture of mode {row['label'].mode}, "
            "expected class ids in mode L"
        )
    return label


def format_statistics(statistics: Mapping[str, SplitStatistics]) -> str:
    """A table for a terminal, one column for each split."""
    summaries = [split.summary for split in statistics.values()]
    lines = [["", *statistics]]
    for name in ("frames", "patients"):
        lines.append([name, *(str(summary[name]) for summary in summaries)])
    for key, title in (("sources", "source"), ("protocols", "protocol"), ("frame_sizes", "size")):
        for name in dict.fromkeys(name for summary in summaries for name in summary[key]):
            lines.append([f"{title} {name}", *(str(summary[key].get(name, 0)) for summary in summaries)])
    for key, title in (("frames_with", "frames with"), ("combinations", "frames with only")):
        for name in dict.fromkeys(name for summary in summaries for name in summary[key]):
            counts = [(summary[key].get(name, 0), summary["frames"]) for summary in summaries]
            lines.append([f"{title} {name}", *(f"{n} ({n / of:.1%})" if of else "0" for n, of in counts)])
    for key, title, digits in (
        ("polylines_per_frame", "polylines in a frame", 1),
        ("points_per_polyline", "points", 0),
        ("stroke_length_px", "length, px", 0),
        ("stroke_length_diagonals", "length, diagonals", 2),
    ):
        for name in dict.fromkeys(name for summary in summaries for name in summary[key]):
            cells = [_range(summary[key].get(name), digits) for summary in summaries]
            lines.append([f"{name}: {title}", *cells])
    for name in dict.fromkeys(name for summary in summaries for name in summary["pixel_share"]):
        shares = [summary["pixel_share"].get(name) for summary in summaries]
        lines.append([f"pixels of {name}", *("-" if share is None else f"{share:.2%}" for share in shares)])
    lines.append(["pixels ignored", *(f"{summary['ignored_share'] or 0:.2%}" for summary in summaries)])
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([*table, "Of ranges: the median, and in brackets the 5th and the 95th percentile."])


def _range(summary: dict[str, float] | None, digits: int) -> str:
    """Median, and between which percentiles most lie."""
    if summary is None:
        return "-"
    median, low, high = (f"{summary[key]:.{digits}f}" for key in ("median", "p5", "p95"))
    return f"{median} ({low} to {high})"


# ----------------------------------------------------------------------------------------------------
# Plots of a set's statistics: class frequencies, stroke lengths, which classes occur together.

STATISTICS_FILE = "stats.json"
PLOT_FILES = ("class_frequencies.png", "stroke_lengths.png", "co_occurrence.png")
# Told apart in print and by people who do not see red and green apart.
_SPLIT_COLORS = ("#4477aa", "#ccbb44", "#aa3377")
_OTHER_COLOR = "#777777"
_DPI = 130
_BINS = 20

Statistics = Mapping[str, SplitStatistics]


def write_statistics(folder: Path, statistics: Statistics, title: str) -> list[Path]:
    """Writes stats.json and the plots into a folder, each whole; gives their paths.

    Args:
        folder: Made where it does not exist; files of these names are replaced.
        statistics: Split -> its counts.
        title: The set's name, on every plot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STATISTICS_FILE, {split: found.summary for split, found in statistics.items()})
    figures = (_class_frequencies(statistics), _stroke_lengths(statistics), _co_occurrence(statistics))
    for name, figure in zip(PLOT_FILES, figures, strict=True):
        # A folder may be called anything, formulas too.
        figure.suptitle(title, parse_math=False)
        # A canvas of its own: no global state, no display.
        FigureCanvasAgg(figure)
        with atomic_path(folder / name) as temporary:
            # Without the version of matplotlib in it, the same numbers give the same bytes.
            figure.savefig(temporary, format="png", metadata={"Software": None})
    return [folder / name for name in (STATISTICS_FILE, *PLOT_FILES)]


def _figure(width_in: float, height_in: float) -> Figure:
    return Figure(figsize=(width_in, height_in), dpi=_DPI, layout="constrained")


def _names(statistics: Statistics) -> list[str]:
    """The landmarks of all splits."""
    return list(dict.fromkeys(name for found in statistics.values() for name in found.summary["frames_with"]))


def _colors(statistics: Statistics) -> list[str]:
    known = list(_SPLIT_COLORS[: len(statistics)])
    return known + [_OTHER_COLOR] * (len(statistics) - len(known))


def _class_frequencies(statistics: Statistics) -> Figure:
    names = _names(statistics)
    figure = _figure(7, 1.5 + 0.7 * len(names))
    axes = figure.add_subplot()
    shares = {
        split: [found.summary["frames_with"].get(name, 0) for name in names]
        for split, found in statistics.items()
    }
    _grouped_bars(axes, names, shares, statistics)
    axes.set_title("frames that show a landmark")
    return figure


def _co_occurrence(statistics: Statistics) -> Figure:
    totals: dict[str, int] = {}
    for found in statistics.values():
        for name, count in found.summary["combinations"].items():
            totals[name] = totals.get(name, 0) + count
    names = sorted(totals, key=lambda name: (-totals[name], name))
    figure = _figure(8, 1.4 + 0.28 * len(names) * max(1, len(statistics)))
    axes = figure.add_subplot()
    counts = {
        split: [found.summary["combinations"].get(name, 0) for name in names]
        for split, found in statistics.items()
    }
    _grouped_bars(axes, names, counts, statistics)
    axes.set_title("frames that show just these landmarks")
    return figure


def _grouped_bars(axes: Axes, names: list[str], counts: dict[str, list[int]], statistics: Statistics) -> None:
    """Horizontal bars of shares of a split's frames, each with its count."""
    height = 0.8 / max(1, len(statistics))
    for place, (split, color) in enumerate(zip(statistics, _colors(statistics), strict=True)):
        frames = max(1, statistics[split].summary["frames"])
        shares = [100 * count / frames for count in counts[split]]
        where = np.arange(len(names)) + (place - (len(statistics) - 1) / 2) * height
        bars = axes.barh(where, shares, height, color=color, label=f"{split} ({frames} frames)")
        labels = [f"{count} ({share:.1f} %)" for count, share in zip(counts[split], shares, strict=True)]
        axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    # Room for the counts behind the longest bar.
    axes.set_xlim(0, 125)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("% of the split's frames")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _stroke_lengths(statistics: Statistics) -> Figure:
    names = _names(statistics)
    figure = _figure(1 + 3 * len(names), 3.4)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    longest = max(
        (lengths.max() for found in statistics.values() for lengths in _lengths(found) if len(lengths)),
        default=1.0,
    )
    edges = np.linspace(0, 100 * longest, _BINS + 1)
    for axes, name in zip(panels, names, strict=True):
        for (split, found), color in zip(statistics.items(), _colors(statistics), strict=True):
            lengths = 100 * found.stroke_length_diagonals.get(name, np.empty(0))
            # Shares, so that splits of different sizes can be compared.
            weights = np.full(len(lengths), 100 / max(1, len(lengths)))
            axes.hist(
                lengths,
                edges,
                weights=weights,
                histtype="step",
                linewidth=1.6,
                color=color,
                label=f"{split} ({len(lengths)} curves)",
            )
        axes.set_title(name, parse_math=False)
        axes.set_xlabel("length, % of the frame's diagonal")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("% of the curves")
    return figure


def _lengths(found: SplitStatistics) -> list[np.ndarray]:
    return list(found.stroke_length_diagonals.values())
