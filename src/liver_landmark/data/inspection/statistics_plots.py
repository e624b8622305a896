"""Plots of a set's statistics: class frequencies, stroke lengths, which classes occur together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...atomic_files import atomic_path, write_json
from ...model.landmarks_liver_landmark import LANDMARK_NAMES, LANDMARKS
from .statistics import SplitStatistics

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


def _colors(statistics: Statistics) -> list[str]:
    known = list(_SPLIT_COLORS[: len(statistics)])
    return known + [_OTHER_COLOR] * (len(statistics) - len(known))


def _class_frequencies(statistics: Statistics) -> Figure:
    figure = _figure(7, 3.6)
    axes = figure.add_subplot()
    shares = {
        split: [found.summary["frames_with"][name] for name in LANDMARK_NAMES]
        for split, found in statistics.items()
    }
    _grouped_bars(axes, LANDMARK_NAMES, shares, statistics)
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


def _grouped_bars(
    axes: Axes, names: tuple[str, ...] | list[str], counts: dict[str, list[int]], statistics: Statistics
) -> None:
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
    figure = _figure(10, 3.4)
    panels = figure.subplots(1, len(LANDMARKS), sharey=True)
    longest = max(
        (lengths.max() for found in statistics.values() for lengths in _lengths(found) if len(lengths)),
        default=1.0,
    )
    edges = np.linspace(0, 100 * longest, _BINS + 1)
    for axes, landmark in zip(panels, LANDMARKS, strict=True):
        for (split, found), color in zip(statistics.items(), _colors(statistics), strict=True):
            lengths = 100 * found.stroke_length_diagonals[landmark.name]
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
        axes.set_title(landmark.name)
        axes.set_xlabel("length, % of the frame's diagonal")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("% of the curves")
    return figure


def _lengths(found: SplitStatistics) -> list[np.ndarray]:
    return list(found.stroke_length_diagonals.values())
