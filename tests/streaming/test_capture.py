"""Files by their own time, streams over RTSP and HTTP, and what is said where they break."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from urllib.parse import quote

import numpy as np
import pytest

from liver_landmark.streaming import CaptureOptions, SourceError, parse_source
from liver_landmark.streaming.capture import pictures
from tiny_videos import moving_frames, read_video, write_video

from .network_sources import PASSWORD, USER, closed_port, http_stream, rtsp_camera, video_bytes


def read(source, *, stop=None, **options):
    return pictures(parse_source(str(source)), CaptureOptions(**options), stop or threading.Event())


def seen_until_it_breaks(source):
    """The pictures' pixels, and what was said at the end."""
    seen = []
    try:
        seen.extend(picture.pixels() for picture in source)
    except SourceError as error:
        return seen, str(error)
    raise AssertionError("the source did not break")


def error_of(source, **options):
    with pytest.raises(SourceError) as caught:
        list(read(source, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_gives_its_frames_when_they_are_due(tmp_path):
    path = write_video(tmp_path / "op.mp4", moving_frames(12))
    expected, _ = read_video(path)
    moments, frames = [], []
    for picture in read(path):
        moments.append(time.monotonic())
        frames.append(picture.pixels())
    assert len(frames) == 12
    for frame, other in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame, other)
    assert moments[-1] - moments[0] >= 11 * 0.04 - 0.005
    assert moments[-1] - moments[0] < 11 * 0.04 + 1


def test_a_file_in_a_loop_starts_over_and_stops_when_told(tmp_path):
    path = write_video(tmp_path / "op.mp4", moving_frames(3))
    stop = threading.Event()
    times = []
    for picture in read(path, stop=stop, loop=True):
        times.append(picture.time_s)
        if len(times) == 7:
            stop.set()
    assert times == [0.0, 0.04, 0.08, 0.0, 0.04, 0.08, 0.0]


@pytest.mark.parametrize("count", [1, 2])
def test_a_loop_keeps_the_pace_of_its_file(tmp_path, count):
    path = write_video(tmp_path / "op.mp4", moving_frames(count))
    start = time.monotonic()
    for _ in zip(range(6), read(path, loop=True), strict=False):
        last = time.monotonic()
    assert last - start >= 5 * 0.04 - 0.005


def test_files_that_are_no_videos_break_off_or_are_too_large(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert error_of(tmp_path / "a.mp4").startswith(f"{tmp_path / 'a.mp4'}: not a readable video")
    path = write_video(tmp_path / "op.mp4", moving_frames(8), container_options={"movflags": "faststart"})
    assert "more than the limit" in error_of(path, max_pixels=1000)
    path.write_bytes(path.read_bytes()[:-2000])
    assert f"{path}: damaged" in error_of(path)


def test_a_camera_that_is_not_there(capfd):
    assert error_of("/dev/video87") == "/dev/video87: no such camera, or another program uses it"
    assert capfd.readouterr() == ("", "")


class FakeCamera:
    """cv2.VideoCapture with three pictures."""

    made: list[FakeCamera] = []  # noqa: RUF012

    def __init__(self, index, backend):
        self.index, self.left, self.properties, self.released = index, 3, {}, False
        self.made.append(self)

    def isOpened(self):
        return True

    def set(self, name, value):
        self.properties[name] = value

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((4, 6, 3), (10, 20, 30), np.uint8)

    def release(self):
        self.released = True


def test_a_camera_gives_rgb_until_it_is_unplugged(monkeypatch):
    import cv2

    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    source = read("5", camera_size=(1920, 1080))
    for _ in range(3):
        assert next(source).pixels()[0, 0].tolist() == [30, 20, 10]
    with pytest.raises(SourceError, match="camera 5: gives no more pictures"):
        next(source)
    camera = FakeCamera.made[-1]
    assert camera.released
    assert camera.index == 5
    assert camera.properties[cv2.CAP_PROP_FRAME_WIDTH] == 1920
    assert "more than the limit" in error_of("5", max_pixels=10)


@pytest.fixture(scope="module")
def frames():
    return moving_frames(30)


def rtsp_url(port, password=PASSWORD):
    return f"rtsp://{USER}:{quote(password, safe='')}@127.0.0.1:{port}/live"


def test_rtsp_with_a_password_comes_as_it_is_sent():
    frames = moving_frames(100)
    # FFmpeg learns of a stream from its first second.
    with rtsp_camera(frames, rate=50) as port:
        arrivals = []
        source = (arrivals.append(time.monotonic()) or picture for picture in read(rtsp_url(port)))
        seen, reason = seen_until_it_breaks(source)
        refused = error_of(rtsp_url(port, "another"))
    assert reason == f"rtsp://***@127.0.0.1:{port}/live: the stream ended"
    # Lossy and chroma-halved, but the same pictures in the same order.
    assert len(seen) >= 25
    for frame, other in zip(seen, frames[-len(seen) :], strict=True):
        assert np.abs(frame.astype(int) - other).mean() < 15
    # Whatever the start took, what follows keeps the sender's pace.
    assert 0.1 < arrivals[-3] - arrivals[-23] < 0.4 + 0.5
    assert refused.startswith(f"rtsp://***@127.0.0.1:{port}/live: cannot be opened: ")
    assert "another" not in refused


@pytest.mark.parametrize(("container", "codec"), [("mpegts", "libx264"), ("mpjpeg", "mjpeg")])
def test_a_live_stream_over_http(frames, container, codec):
    types = {"mpegts": "video/mp2t", "mpjpeg": "multipart/x-mixed-replace;boundary=ffmpeg"}
    with http_stream(video_bytes(frames, container, codec), types[container], seconds=0.5) as port:
        seen, reason = seen_until_it_breaks(read(f"http://127.0.0.1:{port}/live?token=secret"))
    assert reason.startswith(f"http://127.0.0.1:{port}/live?…: ")
    assert len(seen) >= 28
    assert seen[0].shape == (48, 64, 3)


def test_a_recording_over_http_plays_at_its_own_speed_and_ends(frames, tmp_path):
    path = write_video(tmp_path / "op.mp4", frames[:12], container_options={"movflags": "faststart"})
    with http_stream(path.read_bytes(), "video/mp4", whole=True) as port:
        moments = [time.monotonic() for _ in read(f"http://127.0.0.1:{port}/op.mp4")]
    assert len(moments) == 12
    assert moments[-1] - moments[0] >= 11 * 0.04 - 0.005


def test_servers_that_refuse_fall_silent_or_send_nonsense(frames, monkeypatch):
    monkeypatch.setattr("liver_landmark.streaming.capture._OPEN_TIMEOUT_S", 1.0)
    monkeypatch.setattr("liver_landmark.streaming.capture._READ_TIMEOUT_S", 0.5)
    for scheme in ("rtsp", "http"):
        url = f"{scheme}://u:secret@127.0.0.1:{closed_port()}/x"
        assert error_of(url).endswith("/x: cannot be opened: Connection refused")
    with http_stream(b"<html>no video</html>" * 50, "text/html") as port:
        assert "cannot be opened: " in error_of(f"http://127.0.0.1:{port}/")
    with http_stream(b"", "video/mp2t", hang=True) as port:
        assert error_of(f"http://127.0.0.1:{port}/").endswith("no answer in time")
    with http_stream(video_bytes(frames, "mpegts", "libx264"), "video/mp2t", hang=True) as port:
        assert error_of(f"http://127.0.0.1:{port}/").endswith(": broke off: no answer in time")


def test_a_play_list_of_a_stranger_does_not_read_files_here(frames, tmp_path):
    inside = tmp_path / "inside.ts"
    inside.write_bytes(video_bytes(frames, "mpegts", "libx264"))
    play_list = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\nfile://{inside}\n#EXT-X-ENDLIST\n"
    with http_stream(play_list.encode(), "application/vnd.apple.mpegurl") as port:
        error_of(f"http://127.0.0.1:{port}/live.m3u8")


@pytest.mark.slow
def test_a_reader_that_is_too_slow_skips_to_key_frames(monkeypatch):
    monkeypatch.setattr("liver_landmark.streaming.capture._BEHIND_S", 0.3)
    monkeypatch.setattr("liver_landmark.streaming.capture._CAUGHT_UP_S", 0.1)
    numbers, late = [], []
    with rtsp_camera(moving_frames(150), rate=50) as port, suppress(SourceError):
        for picture in read(rtsp_url(port)):
            numbers.append(round(picture.time_s / 0.02))
            late.append(time.monotonic() - picture.time_s)
            time.sleep(0.05)
    steps = np.diff(numbers)
    assert (steps[:5] == 1).all()
    # Only one in ten is a key frame.
    skipped = np.array(numbers[1:])[steps > 1]
    assert len(skipped) >= 2
    assert (skipped % 10 == skipped[0] % 10).all()
    # In time, the last second of frames would have come 1.5 s late.
    assert max(late) - min(late) < 1.0
