"""Videos, written: the times and colors that were asked for, whole or in parts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liver_landmark.inference.video_writer import VideoWriter, join_videos
from tiny_videos import read_video


@settings(max_examples=25, deadline=None)
@given(
    denominator=st.sampled_from([1, 24, 25, 1000, 30000, 90000, 12800, 10**6]),
    numerator=st.sampled_from([1, 1001]),
    start=st.integers(0, 10**6),
    steps=st.lists(st.integers(1, 5000), min_size=1, max_size=12),
    parts=st.integers(1, 4),
)
def test_written_times_are_exact_in_parts_too(tmp_path_factory, denominator, numerator, start, steps, parts):
    folder = tmp_path_factory.mktemp("times")
    time_base = Fraction(numerator, denominator)
    pts = np.cumsum([start, *steps]).tolist()
    # MP4 holds 32 bits of time a frame.
    scale = -(-10000 // denominator) * 2 * denominator
    if pts[-1] * numerator * scale / denominator > 2**31:
        return
    pieces = [piece.tolist() for piece in np.array_split(pts, parts) if len(piece)]
    files = []
    for number, piece in enumerate(pieces):
        files.append(folder / f"{number}.mp4")
        with VideoWriter(files[-1], 16, 16, time_base, Fraction(25)) as writer:
            for stamp in piece:
                writer.write(np.full((16, 16, 3), stamp % 256, np.uint8), stamp)
    join_videos(folder / "joined.mp4", files)
    assert read_video(folder / "joined.mp4")[1] == [stamp * time_base for stamp in pts]


@pytest.mark.parametrize("size", [(48, 64), (47, 64), (48, 63), (1, 1)])
def test_written_colors_come_back(tmp_path, size):
    frames = [np.full((*size, 3), color, np.uint8) for color in ((200, 40, 40), (30, 180, 60), (90, 90, 90))]
    with VideoWriter(tmp_path / "a.mp4", size[1], size[0], Fraction(1, 25)) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, index)
    for seen, frame in zip(read_video(tmp_path / "a.mp4")[0], frames, strict=True):
        assert np.abs(seen.astype(int) - frame).max() <= 6


def test_a_time_that_mp4_cannot_hold_and_a_frame_of_another_size_are_refused(tmp_path):
    black = np.zeros((16, 24, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 24, 16, Fraction(1, 25)) as writer:
        with pytest.raises(ValueError, match="MP4 cannot hold"):
            writer.write(black, -1)
        writer.write(black, 0)
        with pytest.raises(ValueError, match="must be"):
            writer.write(black.transpose(1, 0, 2), 1)
        for wrong in (0, 10**9):
            with pytest.raises(ValueError, match="MP4 cannot hold"):
                writer.write(black, wrong)
        # Just below the limit of 2^31 ticks of 1/12800 s.
        writer.write(black, 2**31 // 512 - 1)
        writer.write(black, 2**31 // 512)
    stamps = (0, 2**31 // 512 - 1, 2**31 // 512)
    assert read_video(tmp_path / "a.mp4")[1] == [Fraction(stamp, 25) for stamp in stamps]
