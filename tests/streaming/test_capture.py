"""What counts as a source and what is shown of it, when its pictures are due, and the pictures."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from liver_landmark.streaming import CaptureOptions, SourceError, parse_source
from liver_landmark.streaming.capture import PlayClock, StreamLag, pictures
from tiny_videos import moving_frames, read_video, write_video

from .network_sources import PASSWORD, USER, closed_port, http_stream, rtsp_camera, video_bytes
from .stand_ins import Clock


def test_cameras_by_index_and_by_device(monkeypatch):
    for text, target, shown in (
        ("0", "0", "camera 0"),
        ("07", "7", "camera 7"),
        ("/dev/video12", "12", None),
    ):
        address = parse_source(text)
        assert (address.kind, address.target, address.shown) == ("camera", target, shown or text)
    with pytest.raises(SourceError, match=r"^/dev/null: no camera"):
        parse_source("/dev/null")
    for text in (f"{2**31}", "9" * 5000, f"/dev/video{2**31}"):
        with pytest.raises(SourceError, match="no such camera"):
            parse_source(text)
    # A link to a camera is followed.
    monkeypatch.setattr(os.path, "realpath", lambda path: "/dev/video3")
    assert parse_source("/dev/v4l/by-id/usb-scope").target == "3"


def test_files(tmp_path):
    file = tmp_path / "op.mp4"
    file.touch()
    assert parse_source(str(file)).kind == "file"
    for text in (str(tmp_path), str(tmp_path / "missing.mp4"), "", "-1", "²", "\0", "a" * 5000):
        with pytest.raises(SourceError, match="no such file"):
            parse_source(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.7:554/h264", "rtsp://***@10.0.0.7:554/h264"),
        ("RTSP://secret@Host/a", "rtsp://***@host/a"),
        ("http://[::1]:80/live.ts?token=secret", "http://[::1]:80/live.ts?…"),
        ("https://host/x#secret", "https://host/x"),
        ("rtsp://admin:se@secret@host/x", "rtsp://***@host/x"),
    ],
)
def test_urls_are_shown_without_credentials(url, shown):
    address = parse_source(url)
    assert (address.kind, address.target, address.shown) == ("network", url, shown)
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    "url",
    ["ftp://a:secret@h/x", "rtsp://", "rtsp://u:secret@:554/x", "rtsp://u:secret@[::1/x", "rtsp://h:secret/x",
     "rtsp://u:a/secret@h/x", "rtsp://u:12/secret@h/x", "rtsp://u:secret@h/x y", "file:///etc/passwd", "concat://secret"],
)  # fmt: skip
def test_other_urls_are_refused_without_repeating_them(url):
    with pytest.raises(SourceError) as caught:
        parse_source(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


_PART = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=6, max_size=12)


@given(user=_PART, password=_PART)
def test_no_password_gets_through(user, password):
    assume(user not in "rtsp://***@host:554/path" and password not in "rtsp://***@host:554/path")
    quoted = f"rtsp://{quote(user, safe='')}:{quote(password, safe='')}@host:554/path"
    assert parse_source(quoted).shown == "rtsp://***@host:554/path"
    # Written as they are: refused, or shown without them.
    try:
        shown = parse_source(f"rtsp://{user}:{password}@host:554/path").shown
    except SourceError as error:
        shown = str(error)
    assert password not in shown


def test_a_recording_plays_at_its_own_speed():
    clock = Clock()
    play = PlayClock(clock)
    assert play.wait_s(7.0) == 0
    clock.now += 0.01
    assert play.wait_s(7.04) == pytest.approx(0.03)
    # A little late: the frame at once, and the next when it was due all along.
    clock.now += 0.13
    assert play.wait_s(7.08) == 0
    assert play.wait_s(7.16) == pytest.approx(0.02)
    assert play.wait_s(None) == 0


def test_much_too_late_plays_on_from_there_and_so_does_a_start_over():
    clock = Clock()
    play = PlayClock(clock)
    play.wait_s(0.0)
    clock.now += 5
    assert play.wait_s(0.04) == 0
    assert play.wait_s(0.08) == pytest.approx(0.04)
    for jump in (0.0, 3600.0):
        assert play.wait_s(jump) == 0
        assert play.wait_s(jump + 0.04) == pytest.approx(0.04)


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=50))
def test_frames_never_come_early_nor_slower_than_their_decoding(decoding_s):
    clock = Clock(0.0)
    play = PlayClock(clock)
    play.wait_s(0.0)
    for index, seconds in enumerate(decoding_s, start=1):
        clock.now += seconds
        clock.now += play.wait_s(index * 0.04)
        assert clock.now >= index * 0.04 - 1e-9
        assert clock.now <= sum(decoding_s[:index]) + index * 0.04 + 1e-9


def read_stream(lag, clock, times, seconds, waited):
    """Frames of these time stamps, each after so many seconds, of which so many were waiting."""
    behind = []
    for time_s in times:
        clock.now += seconds
        lag.waited(waited)
        behind.append(lag.behind_s(time_s))
    return behind


def test_a_reader_that_is_too_slow_is_behind_and_catches_up():
    clock = Clock()
    lag = StreamLag(clock)
    in_time = read_stream(lag, clock, np.arange(1, 101) * 0.04, 0.04, 0.03)
    assert max(in_time) < 1e-9
    slow = read_stream(lag, clock, 4.0 + np.arange(1, 101) * 0.04, 0.06, 0.001)
    assert slow[-1] == pytest.approx(100 * 0.02, abs=0.02 * 26)
    assert (np.diff(slow[26:]) > 0).all()
    fast = read_stream(lag, clock, 8.0 + np.arange(1, 61) * 0.04, 0.001, 0.0)
    assert fast[-1] < 0.1
    assert lag.behind_s(None) == 0


def test_a_reader_that_waits_is_not_behind_whatever_the_stamps_say():
    clock = Clock()
    lag = StreamLag(clock)
    # A camera that says 25 frames a second and sends 20, and one whose clock goes wrong by 100 ppm for hours.
    assert max(read_stream(lag, clock, np.arange(1000) * 0.04, 0.05, 0.04)) < 0.3
    assert max(read_stream(lag, clock, 40 + np.arange(36000.0), 1 + 1e-4, 0.9)) < 0.01


def test_a_start_in_a_burst_sets_the_measure_by_its_newest_frame():
    clock = Clock()
    lag = StreamLag(clock)
    for index in range(25):  # a second of old frames at once
        assert lag.behind_s(index * 0.04) == 0
    clock.now += 0.5
    assert lag.behind_s(0.96 + 0.04) == pytest.approx(0.46, abs=0.01)


def test_a_sender_that_starts_over_is_not_behind():
    clock = Clock()
    lag = StreamLag(clock)
    lag.behind_s(1000.0)
    clock.now += 1
    assert lag.behind_s(0.0) == 0
    assert lag.behind_s(500.0) == 0


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


@pytest.mark.parametrize("over_http", [False, True])
def test_a_recording_gives_its_frames_when_they_are_due(tmp_path, over_http):
    path = write_video(tmp_path / "op.mp4", moving_frames(12), container_options={"movflags": "faststart"})
    expected, _ = read_video(path)
    moments, frames = [], []
    with http_stream(path.read_bytes(), "video/mp4", whole=True) as port:
        for picture in read(f"http://127.0.0.1:{port}/op.mp4" if over_http else path):
            moments.append(time.monotonic())
            frames.append(picture.pixels())
    np.testing.assert_array_equal(frames, expected)
    assert moments[-1] - moments[0] >= 11 * 0.04 - 0.005
    assert moments[-1] - moments[0] < 11 * 0.04 + 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_file_in_a_loop_starts_over_at_its_pace_and_stops_when_told(tmp_path, count):
    path = write_video(tmp_path / "op.mp4", moving_frames(count))
    stop = threading.Event()
    times, start = [], time.monotonic()
    for picture in read(path, stop=stop, loop=True):
        times.append(picture.time_s)
        if len(times) == 7:
            stop.set()
    assert times == [index % count * 0.04 for index in range(7)]
    assert time.monotonic() - start >= 6 * 0.04 - 0.005


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
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    source = read("5", camera_size=(1920, 1080))
    for _ in range(3):
        assert next(source).pixels()[0, 0].tolist() == [30, 20, 10]
    with pytest.raises(SourceError, match="camera 5: gives no more pictures"):
        next(source)
    camera = FakeCamera.made[-1]
    assert (camera.released, camera.index) == (True, 5)
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
