"""What counts as a source, and that no password of a URL is ever in what people see."""

from __future__ import annotations

import os
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from liver_landmark.streaming import SourceError, parse_source


def test_cameras_by_index_and_by_device(tmp_path):
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


def test_a_link_to_a_camera_is_followed(monkeypatch):
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
