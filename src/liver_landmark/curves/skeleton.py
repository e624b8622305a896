"""The skeleton of one class's strokes as ordered paths: a pixel graph, pruned and split at forks.

Thinning gives the strokes' topology only: which pieces there are and in which order their points come. Where
the center of a stroke lies, and where it ends, is `centerline.py`'s business.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import cv2
import numpy as np
from skimage.morphology import skeletonize

from .polyline import PieceEnd, arc_lengths, order_chains

# A one-pixel-wide skeleton as a graph: where branches end or meet, and the pixels between.

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
    """Follows a skeleton's pixels, which are neighbors also across a corner.

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
    neighbors = pixels[:, None] + np.array(
        [-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1]
    )
    there = flat[neighbors]
    passing = np.count_nonzero(there, axis=1) == 2
    # Of a pixel that a branch passes through the sum of its two neighbors: less the one it is the other.
    sums = (neighbors * there).sum(axis=1)[passing]
    both = dict(zip(pixels[passing].tolist(), sums.tolist(), strict=True))
    around = {
        int(pixels[row]): neighbors[row, there[row]].tolist() for row in np.flatnonzero(~passing).tolist()
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
            walked, _ = _walk(pixel, int(neighbors[row, there[row]][0]), both)
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


# The graph, pruned and split at forks and crossings, as ordered paths.

# In half stroke widths at the fork: a shorter branch is a bump of the stroke's edge; forks that are nearer to
# each other are one crossing (two strokes that cross at 90° give two forks up to one width apart).
_BUMP, _CROSSING = 1.5, 2.5
# From where to where on a branch its direction at the fork is measured, in half stroke widths.
_DIRECTION_FROM, _DIRECTION_TO = 1.0, 4.0
# Two branches of a fork are one curve if it turns by less than 70° there.
_LEAST_ALIGNMENT = np.cos(np.deg2rad(70))


@dataclass(frozen=True)
class SkeletonPath:
    """One curve through a skeleton.

    Attributes:
        points: (N, 2) float64 (x, y) px of the plane, in order, about one a px.
        free_ends: Whether the first and the last point are where the stroke ends, and not at a fork.
        closed: Whether the curve ends where it starts.
    """

    points: np.ndarray
    free_ends: tuple[bool, bool]
    closed: bool = False


@dataclass
class _Branch:
    nodes: tuple[int, int]
    points: np.ndarray

    @property
    def length_px(self) -> float:
        return float(arc_lengths(self.points)[-1])


def skeleton_paths(plane: np.ndarray) -> list[SkeletonPath]:
    """The curves that run through the middle of a plane's strokes.

    At a fork the two branches that go straightest into each other are one curve and the third ends there;
    at a crossing each goes straight on. A ring is a closed curve.

    Args:
        plane: (H, W) bool, one class.

    Returns:
        Paths in no particular order; an isolated dot is a path of one point.

    Raises:
        NoisyMaskError: the skeleton has so many ends and forks that these are no strokes.
    """
    skeleton = skeletonize(plane)
    if not skeleton.any():
        return []
    graph = _Graph(skeleton, plane)
    graph.prune_bumps()
    graph.merge_crossings()
    return graph.curves()


class _Graph:
    """Branches between nodes; a node is where a branch ends or several meet."""

    def __init__(self, skeleton: np.ndarray, plane: np.ndarray) -> None:
        self.plane = plane
        pixels = read_pixel_graph(skeleton)
        self.positions = pixels.positions
        self.rings = pixels.rings
        self.branches: dict[int, _Branch] = {}
        # Node -> the (branch, which end of it) that meet there.
        self.ends: dict[int, list[PieceEnd]] = defaultdict(list)
        self._added = 0
        for nodes, points in pixels.branches:
            self._add(_Branch(nodes, points))
        self.dots = [place for node, place in enumerate(self.positions) if node not in self.ends]

    @cached_property
    def half_width(self) -> np.ndarray:
        """(H, W) px to the stroke's edge; asked for only where branches meet, which most strokes' do not."""
        # Beyond the frame nothing is known to be background.
        bordered = cv2.copyMakeBorder(self.plane.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        return cv2.distanceTransform(bordered, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]

    def _add(self, branch: _Branch) -> None:
        self.branches[self._added] = branch
        for side in (0, 1):
            self.ends[branch.nodes[side]].append((self._added, side))
        self._added += 1

    def _remove(self, key: int) -> _Branch:
        branch = self.branches.pop(key)
        for side in (0, 1):
            self.ends[branch.nodes[side]].remove((key, side))
        return branch

    def _half_width_at(self, node: int) -> float:
        x, y = np.rint(self.positions[node]).astype(int)
        return float(self.half_width[y, x])

    def prune_bumps(self) -> None:
        """Drops branches that do not reach beyond the stroke they branch off, a fork's shortest first."""
        while True:
            bumps: dict[int, tuple[float, int]] = {}
            for key, branch in self.branches.items():
                degrees = [len(self.ends[node]) for node in branch.nodes]
                if min(degrees) == 1 and max(degrees) > 2:
                    fork = branch.nodes[int(degrees[1] > degrees[0])]
                    length_px = branch.length_px
                    if length_px < _BUMP * self._half_width_at(fork):
                        bumps[fork] = min(bumps.get(fork, (np.inf, -1)), (length_px, key))
            if not bumps:
                return
            for _, key in bumps.values():
                self._remove(key)
            self._join_through()

    def _join_through(self) -> None:
        """Makes one branch of two where a node has only these two."""
        for meeting in self.ends.values():
            if len(meeting) != 2 or meeting[0][0] == meeting[1][0]:
                continue
            (first, first_side), (second, second_side) = meeting
            a, b = self._remove(first), self._remove(second)
            into = a.points if first_side == 1 else a.points[::-1]
            out = b.points if second_side == 0 else b.points[::-1]
            nodes = (a.nodes[1 - first_side], b.nodes[1 - second_side])
            self._add(_Branch(nodes, np.vstack([into, out[1:]])))

    def merge_crossings(self) -> None:
        """Makes one node of forks so near to each other that they are one crossing of strokes."""
        self._join_through()
        waiting = sorted((branch.length_px, key) for key, branch in self.branches.items())
        for length_px, key in waiting:
            branch = self.branches[key]
            kept, gone = branch.nodes
            if kept == gone or min(len(self.ends[kept]), len(self.ends[gone])) < 3:
                continue
            if length_px >= _CROSSING * max(self._half_width_at(kept), self._half_width_at(gone)):
                continue
            self._remove(key)
            middle = (self.positions[kept] + self.positions[gone]) / 2
            self.positions[kept] = middle
            for other, side in self.ends.pop(gone):
                nodes = list(self.branches[other].nodes)
                nodes[side] = kept
                self.branches[other].nodes = (nodes[0], nodes[1])
                self.ends[kept].append((other, side))
            for other, side in self.ends[kept]:
                self.branches[other].points[-side] = middle

    def _direction(self, branch: _Branch, side: int, half_width: float) -> np.ndarray:
        """Unit vector from a node into one of its branches."""
        points = branch.points if side == 0 else branch.points[::-1]
        along = arc_lengths(points)
        near, far = np.searchsorted(along, [_DIRECTION_FROM * half_width, _DIRECTION_TO * half_width])
        far = min(far, len(points) - 1)
        near = min(near, far - 1)
        step = points[far] - points[near]
        return step / max(np.hypot(*step), 1e-9)

    def _pair_ends(self) -> dict[PieceEnd, PieceEnd]:
        """End of a branch -> the end that goes on from it, the straightest continuations first."""
        partner: dict[PieceEnd, PieceEnd] = {}
        for node, meeting in self.ends.items():
            if len(meeting) < 2:
                continue
            half_width = self._half_width_at(node)
            directions = {end: self._direction(self.branches[end[0]], end[1], half_width) for end in meeting}
            pairs = [
                (float(directions[one] @ directions[other]), one, other)
                for one, other in combinations(meeting, 2)
            ]
            for opposite, one, other in sorted(pairs):
                if one not in partner and other not in partner and opposite < -_LEAST_ALIGNMENT:
                    partner[one], partner[other] = other, one
        return partner

    def curves(self) -> list[SkeletonPath]:
        """Branches that go on in each other through the nodes, each chain one curve; and rings and dots."""
        paths = [SkeletonPath(ring, (False, False), closed=True) for ring in self.rings]
        for chain, closed in order_chains(self.branches, self._pair_ends()):
            branches = [(self.branches[key], side) for key, side in chain]
            pieces = [branch.points if side == 0 else branch.points[::-1] for branch, side in branches]
            points = np.vstack([pieces[0], *(piece[1:] for piece in pieces[1:])])
            (first, entered), (last, entered_last) = branches[0], branches[-1]
            outer = (first.nodes[entered], last.nodes[1 - entered_last])
            free = (len(self.ends[outer[0]]) == 1, len(self.ends[outer[1]]) == 1)
            paths.append(SkeletonPath(points, free, closed))
        return paths + [SkeletonPath(dot[None], (True, True)) for dot in self.dots]
