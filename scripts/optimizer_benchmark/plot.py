"""A picture of what the methods cost and capture. Needs matplotlib."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from .timing import median_ratio

SPECTRUM = "i^-1/2"


def why_no_plot(figures: dict[str, Any]) -> str | None:
    """Why there can be no plot, in one line; None: there can."""
    if "svd" not in figures["methods"]:
        return "no plot: times are relative to svd's, which --methods leaves out"
    if importlib.util.find_spec("matplotlib") is None:
        return "no plot: matplotlib is not installed (pip install matplotlib)"
    return None


def save_plot(figures: dict[str, Any], path: Path) -> None:
    """Energy on i^-1/2 against the time of a refresh relative to SVD's: 900 px wide, a dot a method."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    svd = figures["methods"]["svd"]["refresh_s"]
    dots = [
        (median_ratio(method["refresh_s"], svd), method["energy"][SPECTRUM]["mean"], method)
        for method in figures["methods"].values()
        if SPECTRUM in method["energy"]
    ]
    figure, axes = pyplot.subplots(figsize=(9, 5.5), dpi=100)
    for own, color, label in ((True, "#1f5fa8", "this package"), (False, "#c2571a", "others")):
        some = [(time, energy) for time, energy, method in dots if method["own"] == own]
        if some:
            axes.scatter(*zip(*some, strict=True), s=55, color=color, label=label, zorder=3)
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    axes.grid(True, which="major", color="#dddddd")
    axes.set_xlabel("time of a refresh relative to SVD's (log)")
    axes.set_ylabel("captured energy relative to SVD's, σᵢ = i^-1/2")
    axes.set_title(
        f"{figures['matrices']} matrices, rank {figures['rank']}, {figures['machine']}", fontsize=11
    )
    axes.legend(loc="lower right")
    figure.tight_layout()
    _label(figure, axes, [(time, energy, method["label"]) for time, energy, method in dots])
    figure.savefig(path)
    pyplot.close(figure)


def _label(figure: Any, axes: Any, dots: list[tuple[float, float, str]]) -> None:
    """Names the dots, each at the nearest place where it covers neither a dot nor another name."""
    text_extent = importlib.import_module("matplotlib.text").Text.get_window_extent
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    centers = [axes.transData.transform(dot[:2]) for dot in dots]
    placed = [axes.get_legend().get_window_extent(renderer)]
    for time, energy, label in dots:
        for x, y, align in _offsets():
            text = axes.annotate(
                label,
                (time, energy),
                xytext=(x, y),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=10,
                arrowprops={"arrowstyle": "-", "color": "#999999", "lw": 0.7, "shrinkA": 1, "shrinkB": 4},
            )
            # The name's own box: the annotation's would hold the line to its dot too.
            text.update_positions(renderer)
            box = text_extent(text, renderer).padded(3)
            covers = any(box.overlaps(other) for other in placed)
            covers = covers or any(box.padded(4).contains(*center) for center in centers)
            if not covers and frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1):
                placed.append(box)
                break
            text.remove()
        else:
            axes.annotate(label, (time, energy), fontsize=10)


def _offsets() -> list[tuple[int, int, str]]:
    """Where a name may stand, in points from its dot, and how it is aligned there; nearest first."""
    offsets = []
    for distance in range(9, 240, 5):
        for x, align in ((distance, "left"), (-distance, "right"), (0, "center")):
            offsets += [(x, y, align) for y in (0, distance, -distance) if x or y]
    return offsets
