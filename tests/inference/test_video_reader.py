"""Videos, read: against PyAV used plainly, turned, cut off, damaged, and of no kind that is read."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from liver_landmark.inference.video_reader import VideoError, VideoLimits, open_video
from tiny_videos import moving_frames, read_video, write_sound, write_video


def read_all(path, limits=None):
    with open_video(path, limits) as reader:
        return list(reader)


def test_frames_sizes_and_times_are_the_files(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_frames(30, 64, 48), rate=Fraction(30000, 1001))
    with open_video(path) as reader:
        assert (reader.width, reader.height) == (64, 48)
        assert reader.frame_rate == Fraction(30000, 1001)
        assert reader.estimated_frames == 30
        assert reader.duration_s == pytest.approx(1.001)
        frames = list(reader)
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.pts * reader.time_base for frame in frames] == read_video(path)[1]
    with av.open(str(path)) as container:
        for frame, plain in zip(frames, container.decode(video=0), strict=True):
            assert np.array_equal(frame.pixels, plain.to_ndarray(format="rgb24"))


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_video_comes_upright(tmp_path, turn):
    frames = moving_frames(3, 64, 48)
    plain = read_all(write_video(tmp_path / "plain.mp4", frames))
    turned = write_video(tmp_path / "turned.mp4", frames, rotation=turn)
    with open_video(turned) as reader:
        assert (reader.width, reader.height) == ((48, 64) if turn != 180 else (64, 48))
        for one, other in zip(plain, reader, strict=True):
            assert np.array_equal(other.pixels, np.rot90(one.pixels, turn // 90))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (VideoLimits(max_pixels=3000), "frames of 64×48 px, more than the limit of 3000"),
        (VideoLimits(max_frames=29), "30 frames, more than the limit of 29"),
        (VideoLimits(max_seconds=1.1), "1 s, more than the limit of 1.1 s"),
        (VideoLimits(max_file_bytes=100), "larger than the limit of 100 bytes"),
    ],
)
def test_limits_are_checked_before_decoding(tmp_path, limits, reason):
    path = write_video(tmp_path / "a.mp4", moving_frames(30))
    with pytest.raises(VideoError, match=reason):
        read_all(path, limits)


def test_a_limit_holds_for_a_stream_that_does_not_say_how_long_it_is(tmp_path):
    path = write_video(tmp_path / "a.h264", moving_frames(30))
    with open_video(path, VideoLimits(max_frames=20)) as reader:
        frames = iter(reader)
        for _ in range(20):
            next(frames)
        with pytest.raises(VideoError, match="21 frames, more than the limit of 20"):
            next(frames)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.mp4", None, "no such file"),
        ("a.mp4", "", "empty file"),
        ("a.mp4", "#EXTM3U\nhttp://127.0.0.1:9/secret.ts\n", "not a readable video"),
        ("a.mp4", "ffconcat version 1.0\nfile /etc/hostname\n", "not a readable video"),
        ("sound.m4a", None, "holds no pictures"),
        (".", None, "a folder"),
    ],
)
def test_what_is_no_video_is_named_in_one_line(tmp_path, name, content, reason):
    write_sound(tmp_path / "sound.m4a")
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(VideoError, match=reason) as caught:
        read_all(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_name_that_looks_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", moving_frames(2)).rename("http:x.mp4")
    assert len(read_all("http:x.mp4")) == 2


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_video_that_was_cut_off_gives_what_it_has_and_says_so(tmp_path, share):
    path = write_video(
        tmp_path / "a.mp4",
        moving_frames(100),
        container_options={"movflags": "faststart"},
        options={"bf": "0"},
    )
    whole = read_all(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with open_video(path) as reader:
        frames, reason = [], None
        try:
            frames += reader
        except VideoError as error:
            reason = str(error)
    assert "damaged" in reason or "cut off" in reason
    assert 0 < len(frames) < 100
    for frame, expected in zip(frames, whole, strict=False):
        assert np.array_equal(frame.pixels, expected.pixels)


@pytest.mark.parametrize("damaged", [0, 1, 2, 7])
def test_the_frame_before_damage_is_left_out(tmp_path, damaged):
    path = write_video(tmp_path / "a.mp4", moving_frames(8), options={"bf": "0"})
    whole = read_all(path)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    # How long the packet's first part is: longer than the packet, which every decoder notices.
    start = data.index(packets[damaged])
    data[start : start + 4] = b"\xff" * 4
    path.write_bytes(data)
    kept = max(0, damaged - 1)
    frames = []
    reason = f"damaged after {kept} frames" if damaged else "damaged from its first frame on"
    with pytest.raises(VideoError, match=reason), open_video(path) as reader:
        frames.extend(reader)
    assert len(frames) == kept
    for frame, expected in zip(frames, whole, strict=False):
        assert np.array_equal(frame.pixels, expected.pixels)


@pytest.mark.parametrize("name", ["late.mkv", "late.webm", "late.mp4", "late.ts"])
def test_a_video_that_begins_late_is_not_cut_off(tmp_path, name):
    codec = "libvpx" if name.endswith("webm") else "libx264"
    pts = [250 + index for index in range(30)]
    path = write_video(tmp_path / name, moving_frames(30), codec, pts=pts, time_base=Fraction(1, 25))
    with open_video(path) as reader:
        times = [frame.time_s for frame in reader]
        assert reader.duration_s == pytest.approx(1.2, abs=0.05)
    assert (len(times), times[0]) == (30, pytest.approx(10))
