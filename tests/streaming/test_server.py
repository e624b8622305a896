"""The page's picture against its frame and mask, and its requests with the standard library's client."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from liver_landmark.streaming import LiveServer, LiveSession, PictureOptions, is_loopback
from liver_landmark.streaming.server import Look, PictureMaker
from liver_landmark.streaming.session import Result

from .stand_ins import CAMERA, Source, StandInModel, wait_for


def result(number=1, size=(90, 160)):
    pixels = np.full((*size, 3), 120, np.uint8)
    prediction = StandInModel()(pixels, 0.0)
    # The left half is ridge; of the rest, the lower half ligament.
    prediction.mask[size[0] // 2 :, size[1] // 2 :] = 3
    return Result(number, pixels, prediction, ready_s=0.0)


def decoded(jpeg):
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    return np.asarray(image).astype(int)


def test_landmarks_are_drawn_as_asked():
    maker = PictureMaker(PictureOptions(quality=95))
    ridge, plain, ligament = (20, 20), (20, 120), (70, 120)
    for alpha in (0.0, 0.4, 1.0):
        picture = decoded(maker.jpeg(result(), Look(alpha)))
        for place, color in ((ridge, (255, 0, 0)), (plain, (120, 120, 120)), (ligament, (0, 0, 255))):
            expected = (1 - alpha) * 120 + alpha * np.array(color)
            np.testing.assert_allclose(picture[place], expected, atol=6)
    picture = decoded(maker.jpeg(result(), Look(1.0, ("ligament",))))
    np.testing.assert_allclose(picture[ridge], 120, atol=6)
    np.testing.assert_allclose(picture[ligament], (0, 0, 255), atol=6)
    np.testing.assert_allclose(decoded(maker.jpeg(result(), Look(1.0, ())))[5:-5, 5:-5], 120, atol=6)


def test_wide_frames_are_reduced_and_small_ones_left():
    maker = PictureMaker(PictureOptions(max_width=80, quality=95))
    picture = decoded(maker.jpeg(result(), Look(1.0)))
    assert picture.shape == (45, 80, 3)
    np.testing.assert_allclose(picture[10, 10], (255, 0, 0), atol=6)
    assert decoded(maker.jpeg(result(2, (90, 80)), Look())).shape == (90, 80, 3)


def test_the_same_picture_is_drawn_once(monkeypatch):
    maker = PictureMaker()
    drawn = []
    encode = maker._encode
    monkeypatch.setattr(maker, "_encode", lambda *arguments: drawn.append(1) or encode(*arguments))
    first = maker.jpeg(result(), Look(0.4, ("ligament", "ridge")))
    assert maker.jpeg(result(), Look(0.4, ("ridge", "ligament"))) == first
    assert len(drawn) == 1
    maker.jpeg(result(), Look(0.5, ("ridge", "ligament")))
    maker.jpeg(result(2), Look(0.5, ("ridge", "ligament")))
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PictureMaker().jpeg(result(), Look(alpha=1.1)), "alpha must lie"),
        (lambda: PictureMaker().jpeg(result(), Look(alpha=float("nan"))), "alpha must lie"),
        (lambda: PictureMaker().jpeg(result(), Look(landmarks=("liver",))), "landmarks are"),
        (lambda: PictureOptions(max_width=8), "max_width"),
        (lambda: PictureOptions(quality=0), "quality"),
        (lambda: PictureOptions(quality=101), "quality"),
        (lambda: PictureOptions(alpha=-1), "alpha"),
    ],
)
def test_looks_and_options_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.code, self.headers, self.body = response.status, response.headers, response.read()
        self.status = json.loads(response.headers.get("Live-Status", "null"))


def ask(server, path, method="GET", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        return Answer(connection.getresponse())


def test_the_page_and_its_parts_are_whole_and_of_this_place(server):
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        answer = ask(server, path)
        assert answer.code == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert b"http" not in answer.body.replace(b"http-equiv", b"")
    assert b"not a medical device" in ask(server, "/").body


def test_a_frame_comes_with_what_is_in_it(server):
    answer = ask(server, "/frame?after=0&alpha=0.5&landmarks=ridge")
    assert answer.code == 200
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.body)).size == (16, 12)
    status = answer.status
    assert status["frame"] >= 1
    ridge, silhouette, _ = status["landmarks"].values()
    assert ridge == {"present": True, "probability": 0.9, "color": "#ff0000"}
    assert silhouette == {"present": False, "probability": 0.25, "color": "#00ff00"}
    expected = {"calibrated": True, "width": 16, "height": 12, "source": "camera 0"}
    expected |= {"message": "", "paused": False, "over": False}
    assert status | expected == status
    later = ask(server, f"/frame?after={status['frame']}&state=0")
    assert later.status["frame"] > status["frame"]


def test_a_result_that_lay_for_long_says_so(serve):
    server = serve(Source(count=1))
    assert server.session.finished.wait(5)
    time.sleep(0.3)
    assert ask(server, "/frame?after=0").status["lain_s"] >= 0.3


def test_the_next_frame_is_waited_for_and_its_absence_is_said(serve, monkeypatch):
    monkeypatch.setattr("liver_landmark.streaming.server._LONG_POLL_S", 0.2)
    server = serve(Source(per_s=2.0))
    first = ask(server, "/frame?after=0").status
    known = f"/frame?after={first['frame']}&state={first['state']}"
    answers, start = [ask(server, known)], time.monotonic()
    assert (answers[0].code, answers[0].body) == (204, b"")
    while answers[-1].code == 204:
        answers.append(ask(server, known))
    assert answers[-1].status["frame"] == first["frame"] + 1
    assert time.monotonic() - start < 5


def test_the_latency_is_what_the_page_acknowledges(server):
    for _ in range(5):
        frame = ask(server, "/frame?after=0").status["frame"]
        assert ask(server, f"/shown?frame={frame}", "POST").code == 204
        assert ask(server, "/shown?frame=999999", "POST").code == 204
    times = json.loads(ask(server, "/times").body)
    assert 1 <= times["shown"] <= 5
    assert 0 < times["latency_ms"]["median"] < 2000
    assert set(times["stages_ms"]) == {"wait", "model", "send", "show"}
    assert ask(server, "/frame?after=0").status["times"]["latency_ms"] is not None


def test_pause_goes_to_all_pages(server):
    assert ask(server, "/pause?paused=1", "POST").code == 204
    assert ask(server, "/frame?after=0").status["paused"]
    assert ask(server, "/pause?paused=0", "POST").code == 204
    assert not ask(server, "/frame?after=0").status["paused"]


@pytest.mark.parametrize(
    ("path", "method", "code"),
    [
        ("/page.html", "GET", 404),
        ("/../../pyproject.toml", "GET", 404),
        ("/%2e%2e/server.py", "GET", 404),
        ("//etc/passwd", "GET", 404),
        ("/shown?frame=1", "GET", 404),
        ("/frame", "POST", 404),
        ("/frame?after=x", "GET", 400),
        ("/frame?alpha=2", "GET", 400),
        ("/frame?alpha=nan", "GET", 400),
        ("/frame?landmarks=liver", "GET", 400),
        ("/shown?frame=1e9", "POST", 400),
        ("/frame?" + "&".join(f"a{index}=1" for index in range(99)), "GET", 400),
        ("/", "PUT", 501),
        ("/", "OPTIONS", 501),
    ],
)
def test_other_requests_are_refused(server, path, method, code):
    answer = ask(server, path, method)
    assert answer.code == code
    assert "Live-Status" not in answer.headers


@pytest.mark.parametrize(
    ("hosts", "code"),
    [
        (("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::1", "a b"), 403),
        (("localhost", "127.0.0.1:9", "LOCALHOST:1", "[::1]:80", "192.168.0.7"), 200),
    ],
)
def test_names_that_point_here_are_refused_but_this_machines_and_addresses(server, hosts, code):
    for host in hosts:
        for path in ("/", "/frame?after=0", "/times"):
            assert ask(server, path, Host=host).code == code, (host, path)
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.7", "example.org", "")))


def test_requests_of_other_sites_are_refused_but_a_link_to_the_page(server):
    host = f"127.0.0.1:{server.server_address[1]}"
    for origin, code in (("https://evil.example", 403), ("null", 403), (f"http://{host}", 204)):
        assert ask(server, "/pause?paused=0", "POST", Origin=origin).code == code
    for path, code, headers in (
        ("/frame?after=0", 403, {"Sec_Fetch_Site": "cross-site"}),
        ("/frame?after=0", 403, {"Sec_Fetch_Site": "same-site"}),
        ("/frame?after=0", 403, {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}),
        ("/", 200, {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}),
        ("/frame?after=0", 200, {"Sec_Fetch_Site": "same-origin"}),
    ):
        assert ask(server, path, **headers).code == code


def test_bodies_are_refused_and_end_the_connection(server):
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)) as connection:
        connection.request("POST", "/pause?paused=1", body=b"GET / HTTP/1.1\r\n\r\n")
        response = connection.getresponse()
        assert response.status == 413
        assert response.headers["Connection"] == "close" or response.read() is not None
    assert not server.session.status()["paused"]


@pytest.fixture(scope="module")
def quiet_server():
    session = LiveSession(CAMERA, StandInModel(), open_source=Source(per_s=1))
    session.start()
    with closing(LiveServer(session, port=0)) as server:
        server.start()
        yield server
    session.stop()


@given(nonsense=st.binary(max_size=200))
def test_whatever_is_sent_the_page_goes_on(quiet_server, nonsense):
    address = ("127.0.0.1", quiet_server.server_address[1])
    with closing(socket.create_connection(address, timeout=10)) as connection:
        connection.sendall(nonsense + b"\r\n\r\n")
    assert ask(quiet_server, "/").code == 200


def test_too_many_connections_are_closed_and_free_again(server, monkeypatch):
    port = server.server_address[1]
    held = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(32)]
    for connection in held:
        connection.connect()
        connection.request("GET", "/times")
    for connection in held:
        connection.getresponse().read()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(server, "/")
    for connection in held:
        connection.close()

    def free():
        try:
            return ask(server, "/").code == 200
        except (http.client.RemoteDisconnected, ConnectionError):
            return False

    wait_for(free)


def test_a_page_hears_of_the_end_at_once(serve, make_session):
    server = serve(Source(per_s=1))
    first = ask(server, "/frame?after=0").status
    heard = []
    waiting = threading.Thread(
        target=lambda: heard.append(ask(server, f"/frame?after=99&state={first['state']}"))
    )
    waiting.start()
    time.sleep(0.1)
    server.session.stop()
    waiting.join(5)
    assert (heard[0].code, heard[0].status["over"]) == (204, True)
    assert heard[0].status["message"] == "The program was stopped."
    # A server that never started closes, too.
    LiveServer(make_session(Source()), port=0).close()
