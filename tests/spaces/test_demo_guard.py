"""What programs may not: name files that are no uploads, make the server fetch addresses, fill its log."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from colored_frames import colored_frame
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from served_demo import serving, uploaded

SECRET = "Patient-4711"
VIEW = [list(DEFAULT_LANDMARKS.names), 0.4, ["areas"], "none"]
FULL = "The demo's storage is full. Please try again in some minutes."
GONE = "This upload has been deleted from the server."


def test_no_file_is_read_or_deleted_that_was_not_uploaded(engine, cache, tmp_path, monkeypatch, capfd):
    example, other = tmp_path / f"{SECRET}.jpg", tmp_path / "other.png"
    for path in (example, other):
        Image.fromarray(colored_frame(("ridge",))).save(path)
    (cache / SECRET).mkdir()
    kept = cache / SECRET / "frame.png"
    kept.write_bytes(other.read_bytes())
    monkeypatch.setattr("demo_examples.example_frames", lambda: [example])
    with serving(engine, cache) as server:
        files = [
            uploaded(str(path)) | more
            for path in (example, other, kept, kept.parent, cache / "gone.png")
            for more in ({}, {"is_stream": True}, {"orig_name": "x", "url": str(path)})
        ]
        calls = [
            call
            for file in files
            for call in (
                ("find_landmarks", file, False, *VIEW),
                ("analyze_video", file, False, 0, *VIEW[:3]),
                ("draw", [file], *VIEW[1:]),
            )
        ]
        with ThreadPoolExecutor(8) as pool:
            assert all(GONE in answer for answer in pool.map(lambda call: server.ask(*call), calls))
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
        assert GONE in server.ask("find_landmarks", uploaded(address), False, *VIEW)
        assert httpx.get(f"{server.url}gradio_api/file={address}", timeout=20).status_code == 404


@pytest.mark.parametrize("route", ["deep_link?session_hash=one", "process_recording", "component_server"])
def test_routes_that_the_page_does_not_need_are_closed(server, route):
    for method in ("GET", "POST"):
        assert httpx.request(method, f"{server.url}gradio_api/{route}", timeout=20).status_code == 404


def test_uploads_end_before_the_disk_does(server, monkeypatch):
    [kept] = server.upload().json()
    before = set(server.files())
    monkeypatch.setattr(server.handlers.stored, "_max_bytes", 0)
    answer = server.upload(content=bytes(100_000))
    assert (answer.status_code, answer.text) == (507, FULL)
    assert set(server.files()) == before
    # Who is here already is told the same, and the upload is gone; what only tidies up still runs.
    assert FULL in server.ask("find_landmarks", uploaded(kept), False, *VIEW)
    assert before - set(server.files()) == {Path(kept)}
    assert FULL in server.ask("draw", *VIEW)
    monkeypatch.undo()
    [again] = server.upload().json()
    assert again == kept
    server.handlers.uploads.release(again)


def raw_upload(server, headers, *parts):
    """A connection that has sent these headers and parts of a body."""
    address = urlsplit(f"{server.url}gradio_api/upload")
    connection = HTTPConnection(address.netloc, timeout=20)
    connection.putrequest("POST", address.path)
    for name, value in ({"Content-Type": "multipart/form-data; boundary=x"} | headers).items():
        connection.putheader(name, value)
    connection.endheaders()
    for part in parts:
        connection.send(part)
    return connection


def one_chunk(size):
    """A form with a file of so many bytes, as `Transfer-Encoding: chunked` has it."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head + bytes(size) + b"\r\n--x--\r\n"
    return b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


def folder_bytes(server):
    return sum(path.stat().st_size for path in server.files())


def answer_of(connection):
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_what_is_announced_as_too_large_is_refused_before_it_is_sent(server):
    with closing(raw_upload(server, {"Content-Length": str(10**9)})) as connection:
        assert answer_of(connection) == (413, "The file is larger than 200 MB.")


@pytest.mark.parametrize("announced", [{}, {"Content-Length": "10"}])
def test_what_comes_in_counts_and_not_what_was_announced(server, monkeypatch, announced, capfd):
    headers = {"Transfer-Encoding": "chunked"} | announced
    with closing(raw_upload(server, headers, one_chunk(1000))) as connection:
        status, answer = answer_of(connection)
        assert status == 200
        server.handlers.uploads.release(json.loads(answer)[0])
    size = 2**20
    monkeypatch.setattr(server.handlers.stored, "_max_bytes", folder_bytes(server) + size)
    with closing(raw_upload(server, headers, one_chunk(2 * size))) as connection:
        assert answer_of(connection) == (507, FULL)
    # What had come of it goes with the next sweep.
    assert folder_bytes(server) <= server.handlers.stored._max_bytes
    assert server.handlers.stored._coming == 0
    assert "".join(capfd.readouterr()) == ""


def test_nobody_keeps_others_out_by_announcing(server, monkeypatch, capfd):
    monkeypatch.setattr(server.handlers.stored, "_max_bytes", folder_bytes(server) + 2**22)
    idle = [raw_upload(server, {"Content-Length": str(2**21)}, b"--x\r\n") for _ in range(5)]
    [path] = server.upload(content=bytes(1000)).json()
    server.handlers.uploads.release(path)
    for connection in idle:
        connection.close()
    # They broke off: nothing to be logged.
    time.sleep(0.2)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    "values",
    [
        ("frame.png", False, *VIEW),
        (uploaded(5), False, *VIEW),
        (uploaded([]), False, *VIEW),
        ({"name": SECRET}, False, *VIEW),
        ([SECRET], False, *VIEW),
        (None, False),
        (5, None, None, None, None, None),
    ],
)
def test_values_of_a_wrong_kind_are_answered_in_plain_words(server, capfd, values):
    answer = server.ask("find_landmarks", *values)
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
    Image.fromarray(colored_frame(("ridge",))).save(path)
    [upload] = server.upload(f"{SECRET}.png", path.read_bytes()).json()
    answer = server.ask("find_landmarks", uploaded(upload), False, *VIEW)
    assert "Something went wrong on the server. Please try again, or try another file." in answer
    logged = "".join(capfd.readouterr())
    assert logged.startswith("error: RuntimeError at test_demo_guard.py:")
    assert SECRET not in logged
    assert not [file for file in server.files() if SECRET in file.name]
