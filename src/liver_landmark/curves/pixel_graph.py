"""A one-pixel-wide skeleton as a graph: where branches end or meet, and the pixels between."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# More ends and forks in one piece of a mask are noise: what follows takes milliseconds for each hundred.
MOST_NODES = 1000


class NoisyMaskError(ValueError):
    """A mask that is no strokes but noise; the message is one line."""


@dataclass
class PixelGraph:
    """A skeleton's nodes and what connects them, in (x, y) px of its plane.

    Attributes:
        positions: Of each node its (2,) place: an end of a branch, the middle of where several meet, or a
            pixel on its own.
        branches: The two nodes of each branch, and its (N, 2) points from the one to the other.
        rings: (N, 2) points of closed curves that meet no other, the first again at the end.
    """

    positions: list[np.ndarray] = field(default_factory=list)
    branches: list[tuple[tuple[int, int], np.ndarray]] = field(default_factory=list)
    rings: list[np.ndarray] = field(default_factory=list)


def read_pixel_graph(skeleton: np.ndarray) -> PixelGraph:
    """Follows a skeleton's pixels, which are neighbours also across a corner.

    Args:
        skeleton: (H, W) bool, lines one pixel wide.

    Raises:
        NoisyMaskError: more than `MOST_NODES` nodes.
    """
    stride = skeleton.shape[1] + 2
    padded = np.zeros((len(skeleton) + 2, stride), bool)
    padded[1:-1, 1:-1] = skeleton
    flat = padded.ravel()
    # A pixel is its place in the flattened plane.
    pixels = np.flatnonzero(flat)
    neighbours = pixels[:, None] + np.array(
        [-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1]
    )
    there = flat[neighbours]
    passing = np.count_nonzero(there, axis=1) == 2
    # Of a pixel that a branch passes through the sum of its two neighbours: less the one it is the other.
    sums = (neighbours * there).sum(axis=1)[passing]
    both = dict(zip(pixels[passing].tolist(), sums.tolist(), strict=True))
    around = {
        int(pixels[row]): neighbours[row, there[row]].tolist() for row in np.flatnonzero(~passing).tolist()
    }
    graph = PixelGraph()

    def places(line: list[int]) -> np.ndarray:
        y, x = np.divmod(np.array(line, dtype=np.intp), stride)
        return np.stack([x, y], axis=1) - 1.0

    node_of: dict[int, int] = {}
    for clump in _clumps(around):
        node_of.update(dict.fromkeys(clump, len(graph.positions)))
        graph.positions.append(places(clump).mean(axis=0))
    if len(graph.positions) > MOST_NODES:
        raise NoisyMaskError(
            f"one piece of the mask has {len(graph.positions)} ends and forks, more than {MOST_NODES}: noise"
        )
    seen: set[int] = set()
    for pixel, node in node_of.items():
        for first in around[pixel]:
            if first in node_of:
                walked, other = [], node_of[first]
                # Nodes side by side; once, from the one with the lower number.
                if node >= other:
                    continue
            elif first in seen:
                continue
            else:
                walked, end = _walk(pixel, first, both)
                seen.update(walked)
                other = node_of[end]
                # A clump's own corner is no branch.
                if other == node and len(walked) <= 4:
                    continue
            points = [graph.positions[node][None], places(walked), graph.positions[other][None]]
            graph.branches.append(((node, other), np.concatenate(points)))
    for pixel in both:
        if pixel not in seen:
            row = np.searchsorted(pixels, pixel)
            walked, _ = _walk(pixel, int(neighbours[row, there[row]][0]), both)
            seen.update(walked, (pixel,))
            graph.rings.append(places([pixel, *walked, pixel]))
    return graph


def _clumps(around: dict[int, list[int]]) -> list[list[int]]:
    """Groups of adjoining pixels at which branches meet; an end, or a pixel on its own, is a group of one."""
    clumps = []
    grouped: set[int] = set()
    for pixel in around:
        if pixel in grouped:
            continue
        clump, waiting = [], [pixel]
        grouped.add(pixel)
        while waiting:
            here = waiting.pop()
            clump.append(here)
            for other in around[here] if len(around[here]) > 2 else ():
                if len(around.get(other, ())) > 2 and other not in grouped:
                    grouped.add(other)
                    waiting.append(other)
        clumps.append(clump)
    return clumps


def _walk(start: int, first: int, both: dict[int, int]) -> tuple[list[int], int]:
    """The pixels from `first` on, away from `start`, and the node's pixel they lead to; of a ring `start`."""
    walked, before, here = [], start, first
    while here in both and here != start:
        walked.append(here)
        before, here = here, both[here] - before
    return walked, here
