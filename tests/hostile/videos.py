"""Hostile videos, made with PyAV's encoders and by changing their bytes."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from hostile.collection import Collection, Outcome
from hostile.picture_bytes import encoded, jpeg_header, overwritten
from tiny_videos import moving_frames, read_video, write_sound, write_video

FRAMES = 5
LONG_FRAMES = 30
# Encoder, suffix: what a hospital's recorders, phones and editors leave behind, and a few older ones.
GOOD = (
    ("libx264", ".mp4"), ("libx264", ".mkv"), ("libx264", ".mov"), ("libx264", ".avi"), ("libx264", ".ts"),
    ("libx264", ".m2ts"), ("libx264", ".flv"), ("libx264", ".h264"), ("libx265", ".mp4"), ("libx265", ".mkv"),
    ("libx265", ".hevc"), ("mpeg4", ".mp4"), ("mpeg4", ".avi"), ("mpeg4", ".mkv"), ("mjpeg", ".avi"),
    ("mjpeg", ".mov"), ("mjpeg", ".mjpeg"), ("libvpx", ".webm"), ("libvpx-vp9", ".webm"),
    ("libvpx-vp9", ".mp4"), ("ffv1", ".mkv"), ("ffv1", ".avi"), ("libsvtav1", ".mp4"), ("libsvtav1", ".mkv"),
    ("mpeg2video", ".mpg"), ("mpeg2video", ".ts"), ("mpeg2video", ".vob"), ("mpeg2video", ".mxf"),
    ("mpeg1video", ".mpeg"), ("prores_ks", ".mov"), ("huffyuv", ".avi"), ("rawvideo", ".avi"),
    ("png", ".mov"), ("wmv2", ".wmv"), ("flv", ".flv"),
)  # fmt: skip
DAMAGED = (
    ("libx264", ".mp4"), ("libx264", ".mkv"), ("libx264", ".ts"), ("libx264", ".avi"), ("libx264", ".h264"),
    ("mpeg4", ".avi"), ("libx265", ".mp4"), ("libvpx-vp9", ".webm"), ("ffv1", ".mkv"), ("mjpeg", ".avi"),
    ("mpeg2video", ".mpg"),
)  # fmt: skip
# Bare streams and streams of packets have no length that a cut could contradict.
NO_LENGTH = (".h264", ".ts", ".mpg")
# Without checksums damage to it is not to be told from a picture; archives write them.
CHECKSUMS = {"ffv1": {"level": "3", "slicecrc": "1"}}
# Slow enough that damage takes away seconds; MPEG-2 has few rates.
SLOW_RATE = 5


def write_videos(out: Collection, rng: np.random.Generator) -> None:
    """Writes all kinds of videos into the collection."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for number, (codec, suffix) in enumerate(GOOD):
            if out.wants("whole video"):
                path = write_video(work / f"whole{suffix}", moving_frames(FRAMES, seed=number), codec)
                _add_good(out, "whole video", path)
        _write_makes(out, work)
        _write_cut(out, work)
        _write_noise(out, rng, work)
        _write_changing(out, work)
        _write_declared(out, work)
        _write_without_frames(out, work)
        _write_lists(out, work)


def _add_good(out: Collection, family: str, path: Path, suffix: str | None = None) -> None:
    if not out.wants(family):
        return
    frames, _ = read_video(path)
    assert frames, path
    out.add(family, suffix or path.suffix, path.read_bytes(), Outcome.GOOD, frames, is_video=True)


def _write_makes(out: Collection, work: Path) -> None:
    frames = moving_frames(FRAMES, seed=50)
    odd = moving_frames(3, 353, 287, seed=51)
    _add_good(out, "odd size", write_video(work / "odd.mp4", odd, pixel_format="yuv444p"))
    _add_good(out, "odd size", write_video(work / "odd.mkv", odd, "ffv1"))
    _add_good(out, "small size", write_video(work / "small.mkv", moving_frames(3, 2, 2), "ffv1"))
    _add_good(out, "one frame", write_video(work / "one.mp4", frames[:1]))
    _add_good(out, "one frame", write_video(work / "one.h264", frames[:1]))
    for degrees in (90, 180, 270):
        _add_good(out, "turned", write_video(work / "turned.mp4", frames, rotation=degrees))
    uneven = [0, 40, 41, 300, 7000]
    for suffix, base in (
        (".mp4", Fraction(1, 1000)),
        (".mkv", Fraction(1, 1000)),
        (".mov", Fraction(1, 90000)),
    ):
        path = write_video(work / f"uneven{suffix}", frames, pts=uneven, time_base=base)
        _add_good(out, "uneven times", path)
    late = [90_000_000 + 3600 * index for index in range(FRAMES)]
    for suffix in (".mkv", ".mp4", ".ts"):
        path = write_video(work / f"late{suffix}", frames, pts=late, time_base=Fraction(1, 90000))
        _add_good(out, "late start", path)
    _add_good(out, "with sound", write_video(work / "sound.mp4", frames, sound=True))
    ordered = {"bf": "2", "preset": "medium"}
    _add_good(out, "frames out of order", write_video(work / "ordered.mp4", frames * 3, options=ordered))
    _add_good(out, "ten bits", write_video(work / "ten.mp4", frames, "libx265", pixel_format="yuv420p10le"))
    _add_good(out, "4:2:2", write_video(work / "wide.mkv", frames, pixel_format="yuv422p"))
    _add_good(out, "gray", write_video(work / "gray.mkv", frames, "ffv1", pixel_format="gray"))
    for rate in (Fraction(1, 5), 240, Fraction(30000, 1001), 1000):
        _add_good(out, "odd rate", write_video(work / "rate.mp4", frames, rate=rate))
    whole = write_video(work / "whole.mp4", frames)
    for suffix in (".mov", ".mkv", ".avi", ".webm", ".ts", ".h264", ".wmv"):
        _add_good(out, "mp4 of another suffix", whole, suffix)
    _add_good(out, "mkv of another suffix", write_video(work / "whole.mkv", frames), ".mp4")
    for suffix in (".png", ".jpg"):
        _add_good(out, "video of a picture's suffix", whole, suffix)
    for file_format in ("PNG", "BMP"):
        data = encoded(frames[0], file_format)
        out.add("picture of a video's suffix", ".mp4", data, Outcome.GOOD, frames[:1])


def _to_damage(work: Path, codec: str, suffix: str, seed: int) -> tuple[bytes, list[np.ndarray]]:
    """A video that is long enough to lose a part of it, and its frames."""
    rate = 25 if codec == "mpeg2video" else SLOW_RATE
    frames = moving_frames(LONG_FRAMES, seed=seed)
    path = write_video(work / f"whole{suffix}", frames, codec, rate=rate, options=CHECKSUMS.get(codec))
    return path.read_bytes(), read_video(path)[0]


def _write_cut(out: Collection, work: Path) -> None:
    for number, (codec, suffix) in enumerate(DAMAGED):
        if not out.wants("cut video"):
            break
        data, right = _to_damage(work, codec, suffix, seed=100 + number)
        for cut in np.linspace(0.65 * len(data), 1, 4).astype(int):
            _add_cut(out, "cut video", suffix, data[:cut], right, work)
    path = write_video(
        work / "cut.mp4", moving_frames(4 * LONG_FRAMES), container_options={"movflags": "faststart"}
    )
    data, right = path.read_bytes(), read_video(path)[0]
    for cut in np.linspace(0.6 * len(data), len(data) - 1, 5).astype(int):
        _add_cut(out, "index first and cut", ".mp4", data[:cut], right, work)
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    path = write_video(work / "cut.mp4", moving_frames(60), options={"g": "10"}, container_options=fragments)
    data, right = path.read_bytes(), read_video(path)[0]
    for cut in np.linspace(0.8 * len(data), 0.2 * len(data), 4).astype(int):
        _add_cut(out, "fragments cut", ".mp4", data[:cut], right, work)


def _add_cut(
    out: Collection, family: str, suffix: str, data: bytes, right: Sequence[np.ndarray], work: Path
) -> None:
    """A file that lacks something: the frames before are the same as in the whole one."""
    if not out.wants(family):
        return
    (work / f"part{suffix}").write_bytes(data)
    whole = 0
    for frame, expected in zip(read_video(work / f"part{suffix}")[0], right, strict=False):
        if not np.array_equal(frame, expected):
            break
        whole += 1
    if suffix in NO_LENGTH or whole == len(right):
        # Where a bare stream ends, a video ends: what is left may be all that there was. And noise may hit
        # what is no picture.
        out.add(family, suffix, data, Outcome.DAMAGED, right[:whole], is_video=True)
    else:
        # The last one may be lost with what follows it.
        at_least = max(0, whole - 1)
        out.add(family, suffix, data, Outcome.BROKEN, right, at_least=at_least, is_video=True)


def _write_noise(out: Collection, rng: np.random.Generator, work: Path) -> None:
    for number, (codec, suffix) in enumerate(DAMAGED):
        if not (out.wants("broken in the middle of another") and out.wants("noise in a video")):
            break
        data, right = _to_damage(work, codec, suffix, seed=200 + number)
        for share in (0.6, 0.45, 0.8):
            start = int(share * len(data))
            noisy = data[:start] + rng.bytes(400) + data[start + 400 :]
            if suffix == ".mp4":
                _add_cut(out, "broken in the middle", suffix, noisy, right, work)
            else:
                # What frames a packet has lost, other containers do not always say, nor FFmpeg.
                _add_noisy(out, "broken in the middle of another", suffix, noisy, work)
        for _ in range(3):
            noisy = overwritten(rng, data, 8, start=0.2)
            _add_noisy(out, "noise in a video", suffix, noisy, work)


def _add_noisy(out: Collection, family: str, suffix: str, data: bytes, work: Path) -> None:
    """A file with changed bytes: right is what the plain reader makes of it, as far as it gets."""
    if not out.wants(family):
        return
    (work / f"part{suffix}").write_bytes(data)
    out.add(family, suffix, data, Outcome.DAMAGED, read_video(work / f"part{suffix}")[0], is_video=True)


def _write_changing(out: Collection, work: Path) -> None:
    """Two videos of different size behind each other, in what allows it."""
    small, large = moving_frames(12, seed=300), moving_frames(12, 96, 64, seed=301)
    for codec, suffix in (
        ("libx264", ".h264"), ("libx264", ".ts"), ("mpeg2video", ".ts"), ("libx265", ".hevc"),
        ("mjpeg", ".mjpeg"), ("mpeg2video", ".mpg"),
    ):  # fmt: skip
        for frames in ((small, large), (large, small)):
            parts = [
                write_video(work / f"{number}{suffix}", part, codec) for number, part in enumerate(frames)
            ]
            right, _ = read_video(parts[0])
            joined = b"".join(part.read_bytes() for part in parts)
            out.add("changing size", suffix, joined, Outcome.BROKEN, right, at_least=8, is_video=True)
    part = write_video(work / "0.ts", small).read_bytes()
    right, _ = read_video(work / "0.ts")
    out.add("time that starts over", ".ts", part * 2, Outcome.DAMAGED, right * 2, is_video=True)


def _write_declared(out: Collection, work: Path) -> None:
    """Headers that promise what is not there."""
    frames = moving_frames(3, 300, 200)
    huge = struct.pack("<ii", 30_000, 30_000)
    for codec in ("rawvideo", "ffv1", "mjpeg"):
        data = bytearray(write_video(work / "huge.avi", frames, codec).read_bytes())
        at = data.index(b"strf") + 12
        data[at : at + 8] = huge
        # Some codecs know the size themselves, and the container's is not looked at.
        _add_noisy(out, "huge size declared", ".avi", bytes(data), work)
    data = bytearray(write_video(work / "huge.mkv", frames, "ffv1").read_bytes())
    # PixelWidth, two bytes long.
    struct.pack_into(">H", data, data.index(b"\xb0\x82") + 2, 30_000)
    _add_noisy(out, "huge size declared", ".mkv", bytes(data), work)
    text = b"YUV4MPEG2 W30000 H30000 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(5000)
    out.add("huge size declared", ".mp4", text, Outcome.BAD)
    out.add("huge size declared", ".mjpeg", jpeg_header(30_000, 30_000) * 3, Outcome.BAD)
    data = bytearray(write_video(work / "rate.avi", frames, "mjpeg").read_bytes())
    at = data.index(b"strh") + 8 + 20
    for scale, rate in ((0, 0), (1, 0), (0, 25), (1, 2**31 - 1), (2**31 - 1, 1)):
        struct.pack_into("<II", data, at, scale, rate)
        _add_noisy(out, "wrong rate declared", ".avi", bytes(data), work)


def _write_without_frames(out: Collection, work: Path) -> None:
    sound = write_sound(work / "sound.mp4").read_bytes()
    out.add("sound alone", ".mp4", sound, Outcome.BAD)
    out.add("sound alone", ".mkv", write_sound(work / "sound.mkv").read_bytes(), Outcome.BAD)
    data = write_video(work / "whole.mp4", moving_frames(FRAMES)).read_bytes()
    # An index without the data it speaks of, and the other way round.
    at, size = data.index(b"mdat") - 4, struct.unpack(">I", data[data.index(b"mdat") - 4 :][:4])[0]
    out.add("index alone", ".mp4", data[:at] + data[at + size :], Outcome.BAD)
    out.add("no index", ".mp4", data[: at + size], Outcome.BAD)
    out.add("file type alone", ".mp4", data[:at], Outcome.BAD)
    data = write_video(work / "whole.mkv", moving_frames(FRAMES)).read_bytes()
    out.add("header alone", ".mkv", data[: data.index(b"\x1f\x43\xb6\x75")], Outcome.BAD)
    data = write_video(work / "whole.avi", moving_frames(FRAMES), "mpeg4").read_bytes()
    out.add("header alone", ".avi", data[: data.index(b"movi") + 4], Outcome.BAD)
    data = write_video(work / "whole.h264", moving_frames(1)).read_bytes()
    out.add("header alone", ".h264", data[:40], Outcome.BAD)


def _write_lists(out: Collection, work: Path) -> None:
    """Texts that tell FFmpeg to open other files: none may be reached by way of them."""
    target = out.folder / "beside.mp4"
    target.write_bytes(write_video(work / "whole.mp4", moving_frames(FRAMES)).read_bytes())
    out.note(target, "beside lists", Outcome.GOOD, read_video(target)[0], is_video=True)
    lists = {
        "play list": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
        "concatenation": f"ffconcat version 1.0\nfile '{target}'\n",
        "session": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }
    for text in lists.values():
        for suffix in (".mp4", ".ts", ".mkv"):
            out.add("list of other files", suffix, text.encode(), Outcome.BAD)
