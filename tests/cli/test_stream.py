"""`liver-landmark stream` from outside: what it says, what it exits with, what it leaves behind."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from contextlib import closing, redirect_stdout

import pytest

from liver_landmark.cli import main
from tiny_videos import moving_frames, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = moving_frames(12)
    path = tmp_path_factory.mktemp("video") / "op.mp4"
    return write_video(path, frames, container_options={"movflags": "faststart"})


@pytest.fixture(autouse=True)
def _no_pages_to_tell(monkeypatch):
    monkeypatch.setattr("liver_landmark.cli.stream._LAST_WORD_S", 0.0)


def stream(*arguments):
    return main(["stream", *map(str, arguments)])


def test_a_file_is_played_to_its_end(model, video, tmp_path, capsys):
    stats = tmp_path / "stats.json"
    code = stream(
        video, "--model", model, "--device", "cpu", "--port", 0, "--stats", stats, "--smoothing", 0.2
    )
    printed = capsys.readouterr()
    assert code == 0
    assert printed.err == f"loading model {model} …\nopening {video} …\n"
    first, last = printed.out.splitlines()
    assert re.fullmatch(rf"{video} is shown at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)", first)
    assert "12 frames captured" in last
    assert last.endswith("no frame was shown on a page")
    content = json.loads(stats.read_text())
    assert (content["source"], content["model"], content["error"]) == (str(video), model, None)
    assert (content["captured"], content["shown"], content["smoothing_s"]) == (12, 0, 0.2)
    assert content["processed"] + content["dropped"] == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stats.json"]


def test_a_file_that_breaks_is_one_line_and_exit_code_1(model, video, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:-2000])
    assert stream(broken, "--model", model, "--device", "cpu", "--port", 0) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {broken}: damaged")


def test_what_cannot_be_opened_is_one_line_and_exit_code_2(model, video, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        for arguments, expected in (
            ((tmp_path / "none.mp4", "--model", model), "no such file"),
            ((tmp_path / "text.mp4", "--model", model), "not a readable video"),
            (("/dev/video87", "--model", model), "/dev/video87: no such camera"),
            ((video, "--model", tmp_path / "nowhere"), f"model {tmp_path / 'nowhere'}"),
            ((video, "--model", model, "--port", port), f"127.0.0.1 port {port}: Address already in use"),
            ((video, "--model", model, "--host", "no.such.host.invalid"), "no.such.host.invalid port 0: "),
            ((video, "--model", model, "--stats", tmp_path / "no" / "s.json"), "there is no folder"),
            (
                ("rtsp://u:secret@127.0.0.1:9/x", "--model", model),
                "rtsp://***@127.0.0.1:9/x: cannot be opened",
            ),
            (("ftp://u:secret@h/x", "--model", model), "scheme ftp://"),
        ):
            assert stream("--port", 0, "--device", "cpu", *arguments) == 2
            printed = capsys.readouterr()
            assert printed.out == ""
            line = printed.err.splitlines()[-1]
            assert line.startswith("liver-landmark stream: error: ")
            assert expected in line
            assert "secret" not in printed.err


@pytest.mark.parametrize(
    "option",
    [("--port", "70000"), ("--port", "x"), ("--smoothing", "-1"), ("--reconnect", "nan"),
     ("--camera-size", "1920"), ("--camera-size", "0x5"), ("--max-width", "0"), ("--quality", "101"),
     ("--alpha", "2")],
)  # fmt: skip
def test_options_that_cannot_be(option, error_line):
    assert stream("0", "--model", "m", *option) == 2
    assert option[0] in error_line("stream")


def test_listening_to_others_is_warned_of(model, video, capsys):
    assert stream(video, "--model", model, "--host", "0.0.0.0", "--port", 0) == 0
    assert "warning: everyone who reaches 0.0.0.0 can watch" in capsys.readouterr().err.splitlines()[-1]


def test_a_terminated_command_ends_well(model, video, tmp_path, capsys):
    def missed(number, frame):
        raise AssertionError("the command did not take the signal")

    def terminate():
        # Twice, as `timeout` does, once the page has a frame.
        while not (found := re.search(r"http://\S+", written.getvalue())):
            time.sleep(0.01)
        with urllib.request.urlopen(f"{found[0]}frame?after=0&state=0", timeout=60) as answer:
            types.append(answer.headers["Content-Type"])
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    types, written = [], io.StringIO()
    before = signal.signal(signal.SIGTERM, missed)
    page = threading.Thread(target=terminate, daemon=True)
    try:
        page.start()
        with redirect_stdout(written):
            code = stream(video, "--loop", "--model", model, "--device", "cpu", "--port", 0)
        page.join(5)
        assert signal.getsignal(signal.SIGTERM) is missed
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 0
    assert types == ["image/jpeg"]
    assert capsys.readouterr().err == f"loading model {model} …\nopening {video} …\n"
    assert re.search(r"[1-9]\d* frames captured", written.getvalue())
