"""Limits from the environment, and the plain sentence for each file that is refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from demo_limits import DemoLimits
from PIL import Image

from liver_landmark.inference.video_reader import VideoError, open_video
from liver_landmark.utils.frame_files import FrameError, read_frame
from tiny_videos import moving_frames, write_video


@pytest.fixture
def limits():
    return DemoLimits(
        max_upload_mb=0.1, max_frame_megapixels=0.1, max_video_megapixels=0.01, max_video_frames=20
    )


def test_the_environment_changes_limits():
    assert DemoLimits.from_environment({}) == DemoLimits()
    chosen = DemoLimits.from_environment(
        {"LIVER_LANDMARK_DEMO_MAX_WAITING": "7", "LIVER_LANDMARK_DEMO_KEEP_MINUTES": "0.5", "HOME": "/"}
    )
    assert (chosen.max_waiting, chosen.keep_minutes) == (7, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_WAITING", value) for value in ("many", "", "0", "-1", "nan", "1.5")]
    + [(name, "inf") for name in ("KEEP_MINUTES", "MAX_UPLOAD_MB", "MAX_KEPT_MB")],
)
def test_a_wrong_limit_is_named_and_none_is_without_end(name, value):
    with pytest.raises(ValueError, match=f"(?i){name}"):
        DemoLimits.from_environment({f"LIVER_LANDMARK_DEMO_{name}": value})


def picture(format, size=(64, 48), mode="RGB", **options):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, format=format, **options)
    return buffer.getvalue()


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
BAD_FRAMES = {
    "empty": (b"", "The file is empty."),
    "text": (b"no picture", "no picture that the demo can read"),
    "cut off": (picture("JPEG")[:400], "damaged or incomplete"),
    "too many pixels": (picture("PNG", (400, 300)), "up to 0.1 million pixels"),
    "a header of 900 million pixels": (png_header(30000, 30000), "up to 0.1 million pixels"),
    "too many bytes": (picture("BMP", (250, 250)), "larger than 0.1 MB"),
    "animated": (
        picture("WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")]),
        "several pictures",
    ),
    "floating point": (picture("TIFF", mode="F"), "kind of color"),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_a_bad_frame_gets_a_plain_sentence(limits, tmp_path, case):
    content, expected = BAD_FRAMES[case]
    path = tmp_path / "Patient Name.png"
    path.write_bytes(content)
    with pytest.raises(FrameError) as error:
        read_frame(path, limits.frame)
    message = limits.frame_message(str(error.value).removeprefix(f"{path}: "))
    assert expected in message
    assert message[0].isupper()
    assert message.endswith(".")
    assert "Patient" not in message
    assert "{" not in message


def test_a_missing_upload_is_asked_for_again(limits, tmp_path):
    for read, message, bad in (
        (read_frame, limits.frame_message, FrameError),
        (lambda path: open_video(path).__enter__(), limits.video_message, VideoError),
    ):
        with pytest.raises(bad) as error:
            read(tmp_path / "gone")
        assert message(str(error.value)) == (
            "This upload has been deleted from the server. Please choose the file again."
        )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"no video" * 100, "no video that the demo can read"),
        (b"", "is empty"),
        (bytes(200_000), "larger than 0.1 MB"),
        (moving_frames(30), "up to 60 seconds and 20 frames"),
        (moving_frames(2, 160, 96), "up to 0.01 million pixels"),
        (moving_frames(10), "."),
    ],
)
def test_a_bad_video_gets_a_plain_sentence(limits, tmp_path, content, expected):
    path = tmp_path / "v.mp4"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_video(path, content)
        if len(content) == 10:  # cut off
            path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(VideoError) as error, open_video(path, limits.video) as reader:
        list(reader)
    message = limits.video_message(str(error.value).removeprefix(f"{path}: "))
    assert expected in message
    assert message[-1] == "."


def test_an_upload_of_the_largest_size_fits_on_disk():
    DemoLimits(max_upload_mb=300, max_stored_mb=400)
    with pytest.raises(ValueError, match="max_upload_mb is 301, expected at most 75% of max_stored_mb"):
        DemoLimits(max_upload_mb=301, max_stored_mb=400)
