"""The running demo as programs call it: answers, refusals, and what is left of an upload."""

from __future__ import annotations

import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError, Status
from PIL import Image

from colored_frames import colored_frame
from liver_landmark.curves.formats import read_landmarks
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from served_demo import serving, uploaded
from tiny_videos import read_video, write_video

SECRET = "Patient-4711"
VIEW = {"landmarks": list(DEFAULT_LANDMARKS.names), "opacity": 0.4, "shown": ["areas"], "heat_map": "none"}


def connect(server, folder):
    return Client(server.url, download_files=str(folder), verbose=False)


@pytest.fixture
def client(server, tmp_path):
    return connect(server, tmp_path / "downloads")


def save(path, names, **options):
    Image.fromarray(colored_frame(names)).save(path, **options)
    return handle_file(str(path))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def present(found):
    return tuple(row["landmark"] for row in found if row["present"])


def find(client, file, careful=False, **view):
    return client.predict(file, careful, *(VIEW | view).values(), api_name="/find_landmarks")


def draw(client, **view):
    return client.predict(*(VIEW | view).values(), api_name="/draw")


def test_a_frame_is_analysed_once_and_drawn_anew(client, server, tmp_path):
    file = save(tmp_path / "frame.png", ("ridge", "silhouette"))
    picture, text, table, found = find(client, file)
    assert present(found) == ("ridge", "silhouette")
    assert text.startswith("Found: ridge, silhouette. Not in this frame: ligament.")
    assert "<th" in table
    ridge = pixels(draw(client, landmarks=["ridge"]))
    bare = pixels(draw(client, shown=[]))
    all_of_them = pixels(picture)
    # The display is compressed: many levels apart is drawn, few are not.
    height, width = bare.shape[:2]
    middle = [height * row // 7 + height // 24 for row in (1, 3, 5)]
    for row, (in_all, in_ridge) in zip(middle, ((True, True), (True, False), (False, False)), strict=True):
        for drawn, expected in ((all_of_them, in_all), (ridge, in_ridge)):
            assert (np.abs(drawn[row, width // 2] - bare[row, width // 2]).max() > 15) == expected


def test_nothing_of_an_upload_stays_on_the_server(client, server, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = SECRET
    path = tmp_path / f"{SECRET}.jpg"
    save(path, ("ridge",), exif=exif)
    before = set(server.files())
    picture, *_ = find(client, handle_file(str(path)))
    new = set(server.files()) - before
    # The picture that was drawn, in the display's format.
    assert [file.suffix for file in new] == [".webp"]
    assert all(SECRET.encode() not in file.read_bytes() for file in [*new, Path(picture)])
    assert Image.open(picture).getexif() == {}
    assert server.handlers.uploads == set()


def test_refusals_are_plain_and_leave_nothing(client, server, tmp_path, capfd):
    before = set(server.files())
    path = tmp_path / f"{SECRET}.png"
    path.write_bytes(b"no picture")
    with pytest.raises(AppError, match="no picture that the demo can read"):
        find(client, handle_file(str(path)))
    with pytest.raises(AppError, match="choose a frame first"):
        find(client, None)
    with pytest.raises(AppError, match="opacity must lie between 0 and 1"):
        find(client, save(tmp_path / "frame.png", ("ridge",)), opacity=7)
    clip = write_video(tmp_path / "clip.mp4", [colored_frame(("ridge",), 48, 64)] * 2)
    arguments = (*list(VIEW.values())[:3], "/analyze_video")
    with pytest.raises(AppError, match="smoothing must lie between 0 and 5 s"):
        client.predict(handle_file(str(clip)), False, 9, *arguments[:3], api_name=arguments[3])
    assert set(server.files()) == before
    assert "".join(capfd.readouterr()) == ""


def test_two_with_the_same_file_both_get_their_answer(server, tmp_path):
    path = tmp_path / "frame.png"
    save(path, ("ridge", "ligament"))
    clients = [connect(server, tmp_path / str(index)) for index in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda client: find(client, handle_file(str(path))), clients))
    assert [present(answer[3]) for answer in answers] == [("ridge", "ligament")] * 4


def test_pages_do_not_see_each_other(server, tmp_path):
    one, other = (connect(server, tmp_path / name) for name in ("one", "other"))
    find(one, save(tmp_path / "frame.png", ("ridge",)))
    assert draw(other) is None
    with pytest.raises(AppError, match="There is no frame to draw"):
        other.predict(*VIEW.values(), api_name="/downloads")
    assert draw(one) is not None


def test_an_example_is_analyzed(client, server):
    # What lay in the cache would be swept.
    assert not [file for file in server.files() if file.suffix == ".jpg"]
    picture, _, _, found = client.predict(0, False, *VIEW.values(), api_name="/find_landmarks_in_example")
    assert [row["landmark"] for row in found] == list(DEFAULT_LANDMARKS.names)
    assert pixels(picture).shape[2] == 3


@pytest.mark.parametrize(
    ("name", "written"), [("frame.png", "frame.png"), ("livér\ufffe\u202e 1.png", "livér__ 1.png")]
)
def test_the_downloads_are_those_of_the_frame_by_a_name_that_file_formats_take(server, name, written):
    buffer = io.BytesIO()
    Image.fromarray(colored_frame(("ligament",))).save(buffer, format="PNG")
    [path] = server.upload(name, buffer.getvalue()).json()
    assert Path(path).name == name
    find = server.ask("find_landmarks", uploaded(path), False, *VIEW.values(), session=name)
    assert "event: complete" in find
    answer = server.ask("downloads", *VIEW.values(), session=name)
    [files] = json.loads(answer.split("data: ", 1)[1])
    files = [Path(file["path"]) for file in files]
    assert all(file.name.startswith(written.removesuffix(".png")) for file in files)
    for format, ending in (("cvat", "cvat.xml"), ("labelme", "labelme.json")):
        [annotation] = read_landmarks(next(file for file in files if file.name.endswith(ending)), format)
        assert annotation.file_name == written
        assert [curve["category"] for curve in annotation.landmarks] == ["ligament"]


def test_a_video_is_analyzed(client, server, tmp_path):
    path = write_video(tmp_path / "clip.mp4", [colored_frame(("ridge",), 96, 160)] * 5)
    text, overlay, _, files = client.predict(
        handle_file(str(path)), False, 0, *list(VIEW.values())[:3], api_name="/analyze_video"
    )
    assert "5 frames analyzed. In the frames: ridge 100%, silhouette 0%, ligament 0%." in text
    assert len(read_video(overlay["video"] if isinstance(overlay, dict) else overlay)[0]) == 5
    assert [Path(file).suffix for file in files] == [".mp4", ".zip", ".csv"]
    assert not [file for file in server.files() if file.name == "clip.mp4"]


def test_a_file_that_is_too_large_is_refused_while_it_is_sent(engine, cache):
    with serving(engine, cache, max_upload_mb=0.01) as server:
        before = set(server.files())
        assert server.upload(content=bytes(20_000)).status_code == 413
        # What had come in by then may be there, until the sweep.
        assert all(file.stat().st_size <= 10_486 for file in set(server.files()) - before)


def test_those_who_would_wait_too_long_are_refused_and_leave_no_frame(engine, cache, tmp_path, monkeypatch):
    release = threading.Event()
    started = threading.Semaphore(0)
    plain = engine.predict

    def slow(frame, careful):
        started.release()
        release.wait(30)
        return plain(frame, careful)

    monkeypatch.setattr(engine, "predict", slow)
    with serving(engine, cache, max_waiting=1) as server:
        file = save(tmp_path / "frame.png", ("ridge",))
        clients = [connect(server, tmp_path / str(index)) for index in range(3)]
        arguments = (file, False, *VIEW.values())
        first = clients[0].submit(*arguments, api_name="/find_landmarks")
        assert started.acquire(timeout=20)
        second = clients[1].submit(*arguments, api_name="/find_landmarks")
        while second.status().code != Status.IN_QUEUE:
            time.sleep(0.01)
        refused = save(tmp_path / "refused.png", ("silhouette",))
        with pytest.raises(QueueError, match="full"):
            clients[2].predict(refused, False, *VIEW.values(), api_name="/find_landmarks")
        clip = write_video(tmp_path / "clip.mp4", [colored_frame(("ridge",), 48, 64)] * 2)
        video = (False, 0, *list(VIEW.values())[:3])
        with pytest.raises(QueueError, match="full"):
            clients[2].predict(handle_file(str(clip)), *video, api_name="/analyze_video")
        # The page still shows the video, and its button can be pressed again.
        assert {"frame.png", "clip.mp4"} == names(server) & {"frame.png", "refused.png", "clip.mp4"}
        release.set()
        assert [present(job.result(timeout=20)[3]) for job in (first, second)] == [("ridge",)] * 2
        assert names(server) & {"frame.png", "refused.png", "clip.mp4"} == {"clip.mp4"}
        for path in server.handlers.uploads:
            server.handlers.uploads.release(path)


def names(server):
    return {file.name for file in server.files()}


def test_who_leaves_before_the_turn_comes_leaves_no_upload(engine, server, tmp_path, monkeypatch):
    free, started = threading.Event(), threading.Event()
    plain = engine.predict
    monkeypatch.setattr(engine, "predict", lambda *frame: started.set() or (free.wait(30) and plain(*frame)))
    client = connect(server, tmp_path / "first")
    frame = save(tmp_path / "frame.png", ("ridge",))
    first = client.submit(frame, False, *VIEW.values(), api_name="/find_landmarks")
    assert started.wait(20)
    for name in ("stopped.png", "closed.png"):
        [path] = server.upload(name, name.encode()).json()
        event = server.begin("find_landmarks", uploaded(path), False, *VIEW.values(), session=name)
        assert name in names(server)
        if name == "stopped.png":
            server.post(
                "cancel", json={"session_hash": name, "fn_index": 0, "event_id": event.split("/")[-1]}
            )
            assert name not in names(server)
        else:
            page = f"{server.url}gradio_api/queue/data?session_hash={name}"
            with httpx.stream("GET", page, timeout=20) as lines:
                next(lines.iter_lines())
    free.set()
    assert present(first.result(timeout=20)[3]) == ("ridge",)
    end = time.monotonic() + 20
    while "closed.png" in names(server) and time.monotonic() < end:
        time.sleep(0.05)
    assert not {"frame.png", "closed.png"} & names(server)
