"""What programs may not: name files that are no uploads, make the server fetch addresses, fill its log."""

from __future__ import annotations

import httpx
import pytest
from PIL import Image

from coloured_frames import coloured_frame
from liver_landmark.model.landmarks_liver_landmark import LANDMARK_NAMES
from served_demo import serving

SECRET = "Patient-4711"
META = {"_type": "gradio.FileData"}
VIEW = [list(LANDMARK_NAMES), 0.4, ["areas"], "none"]
GONE = "This upload has been deleted from the server."


def ask(server, name, *values):
    """What a call is answered with, its words as they are sent."""
    url = f"{server.url}gradio_api/call/{name}"
    started = httpx.post(url, json={"data": values, "session_hash": "one"}, timeout=20)
    return httpx.get(f"{url}/{started.json()['event_id']}", timeout=20).text


def test_no_file_is_read_or_deleted_that_was_not_uploaded(engine, cache, tmp_path, monkeypatch, capfd):
    example, other = tmp_path / f"{SECRET}.jpg", tmp_path / "other.png"
    for path in (example, other):
        Image.fromarray(coloured_frame(("ridge",))).save(path)
    (cache / SECRET).mkdir()
    kept = cache / SECRET / "frame.png"
    kept.write_bytes(other.read_bytes())
    monkeypatch.setattr("demo_examples.example_frames", lambda: [example])
    with serving(engine, cache) as server:
        for path in (example, other, kept, kept.parent, cache / "gone.png"):
            for more in ({}, {"is_stream": True}, {"orig_name": "x", "url": str(path)}):
                file = {"path": str(path), "meta": META, **more}
                assert GONE in ask(server, "find_landmarks", file, False, *VIEW)
                assert GONE in ask(server, "analyse_video", file, False, 0, *VIEW[:3])
                assert GONE in ask(server, "draw", [file], *VIEW[1:])
        assert "".join(capfd.readouterr()) == ""
    assert all(path.exists() for path in (example, other, kept))
    kept.unlink()
    kept.parent.rmdir()


def test_no_address_is_fetched(server, monkeypatch):
    async def fetch(*arguments, **options):
        pytest.fail("an address was fetched")

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    monkeypatch.setattr("gradio.routes.secure_url_stream_response", fetch)
    for address in ("http://example.org/frame.png", "https://example.org/frame.png"):
        assert GONE in ask(server, "find_landmarks", {"path": address, "meta": META}, False, *VIEW)
        assert httpx.get(f"{server.url}gradio_api/file={address}", timeout=20).status_code == 404


@pytest.mark.parametrize("route", ["deep_link?session_hash=one", "process_recording"])
def test_routes_that_the_page_does_not_need_are_closed(server, route):
    assert httpx.get(f"{server.url}gradio_api/{route}", timeout=20).status_code == 404


@pytest.mark.parametrize(
    "values",
    [
        ("frame.png", False, *VIEW),
        ({"path": 5, "meta": META}, False, *VIEW),
        ({"path": [], "meta": META}, False, *VIEW),
        ({"name": SECRET}, False, *VIEW),
        ([SECRET], False, *VIEW),
        (None, False),
        (5, None, None, None, None, None),
    ],
)
def test_values_of_a_wrong_kind_are_answered_in_plain_words(server, capfd, values):
    answer = ask(server, "find_landmarks", *values)
    assert "event: error" in answer
    assert GONE in answer or "Something went wrong" in answer
    logged = "".join(capfd.readouterr())
    assert SECRET not in logged
    assert "Traceback" not in logged


def test_a_fault_is_logged_by_kind_and_place_without_its_words(engine, server, monkeypatch, capfd, tmp_path):
    def broken(frame, careful):
        raise RuntimeError(SECRET)

    monkeypatch.setattr(engine, "predict", broken)
    path = tmp_path / "frame.png"
    Image.fromarray(coloured_frame(("ridge",))).save(path)
    [upload] = httpx.post(
        f"{server.url}gradio_api/upload", files={"files": (f"{SECRET}.png", path.read_bytes())}, timeout=20
    ).json()
    answer = ask(server, "find_landmarks", {"path": upload, "meta": META}, False, *VIEW)
    assert "Something went wrong on the server. Please try again, or try another file." in answer
    logged = "".join(capfd.readouterr())
    assert logged.startswith("error: RuntimeError at test_demo_guard.py:")
    assert SECRET not in logged
    assert not [file for file in server.files() if SECRET in file.name]
