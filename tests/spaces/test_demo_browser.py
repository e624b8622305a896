"""The demo in a real browser, as a person uses it: no error in its console, no request to anywhere else."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

from colored_frames import colored_frame
from liver_landmark.curves.formats import read_landmarks
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from served_demo import Server, serving, uploaded
from tiny_videos import read_video, write_video

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the extra `dev`")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser tests need chromium on PATH")


class Watched:
    """A page and what must not happen on it."""

    def __init__(self, page: Any) -> None:
        self.page, self.faults = page, []
        page.on("console", lambda message: self._console(message))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", lambda request: self._request(request.url))
        page.on("response", lambda answer: self._response(answer))

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text}")

    def _request(self, url: str) -> None:
        parts = urlparse(url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.faults.append(f"request: {url}")

    def _response(self, answer: Any) -> None:
        if answer.status >= 400:
            self.faults.append(f"{answer.status}: {answer.url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # The sandbox needs a user who is not root.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def desktop(browser) -> Iterator[Any]:
    # Shared: what Gradio's page consists of is fetched and compiled once.
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def watched(server, desktop) -> Iterator[Watched]:
    watched = Watched(desktop.new_page())
    watched.page.goto(server.url)
    watched.page.wait_for_selector("#frame-upload button")
    yield watched
    watched.page.close()
    assert watched.faults == []


def result_pixels(page: Any) -> np.ndarray:
    """The picture that the page shows, (H, W, 3)."""
    answer = page.request.get(page.locator("#frame-result img").get_attribute("src"))
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB")).astype(int)


def after(page: Any, action: Any) -> np.ndarray:
    """The picture that an action makes the page show."""
    image = page.locator("#frame-result img")
    before = image.get_attribute("src") if image.count() else None
    action()
    page.wait_for_function(
        "before => { const image = document.querySelector('#frame-result img');"
        " return image && image.src && !image.src.endsWith(before) && image.complete }",
        arg=urlparse(before).path if before else "nothing",
    )
    return result_pixels(page)


def download(page: Any, ending: str, folder: Path) -> Path:
    link = page.locator(f"a[download$='{ending}']")
    with page.expect_download() as started:
        link.click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def test_a_frame_from_upload_to_curves(watched, tmp_path):
    page = watched.page
    path, frame = tmp_path / "frame.png", colored_frame(("ridge", "ligament"))
    Image.fromarray(frame).save(path)
    ridge_row, ligament_row = (180 * row // 7 + 7 for row in (1, 5))

    drawn = after(page, lambda: page.set_input_files("#frame-upload input[type=file]", path))
    for row in (ridge_row, ligament_row):
        assert np.abs(drawn[row, 160] - frame[row, 160]).max() > 15
    assert "Found: ridge, ligament. Not in this frame: silhouette." in page.inner_text("#frame-summary")
    rows = page.locator("#frame-table tbody tr")
    assert [row.split()[:2] for row in rows.all_inner_texts()] == [
        ["ridge", "yes"], ["silhouette", "no"], ["ligament", "yes"],
    ]  # fmt: skip

    without = after(page, lambda: page.locator("#frame-landmarks").get_by_label("ridge (red)").uncheck())
    assert np.abs(without[ridge_row, 160] - frame[ridge_row, 160]).max() < 15
    assert np.abs(without[ligament_row, 160] - frame[ligament_row, 160]).max() > 15
    heat = after(page, lambda: page.locator("#frame-heat-map").get_by_label("ligament").check())
    assert np.abs(heat - without).max() > 15

    page.get_by_role("button", name="Prepare files to download").click()
    [annotation] = read_landmarks(download(page, ".labelme.json", tmp_path), "labelme")
    assert [curve["category"] for curve in annotation.landmarks] == ["ridge", "ligament"]
    mask = np.asarray(Image.open(download(page, "_mask.png", tmp_path)))
    assert (mask[ridge_row, 160], mask[ligament_row, 160]) == (1, 3)
    # What was prepared is gone when it no longer fits what is shown.
    after(page, lambda: page.locator("#frame-heat-map").get_by_label("none").check())
    page.wait_for_function("() => !document.querySelector('#frame-files a')")

    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    page.set_input_files("#frame-upload input[type=file]", bad)
    assert "no picture that the demo can read" in page.locator(".toast-body").inner_text()


def test_a_video_from_upload_to_curves(watched, tmp_path):
    page = watched.page
    frames = [colored_frame(names, 96, 160) for names in (("ridge",), ("ridge", "silhouette"))]
    path = write_video(tmp_path / "clip.mp4", [frame for frame in frames for _ in range(6)])
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video-upload input[type=file]", path)
    page.wait_for_selector("#video-upload a")
    page.locator("#video-landmarks").get_by_label("ligament (blue)").uncheck()
    page.get_by_role("button", name="Analyze video").click()
    page.wait_for_function("() => document.querySelector('#video-result video')?.videoWidth === 160")
    said = page.inner_text("#video-summary")
    assert "12 frames analyzed. In the frames: ridge 100%, silhouette 50%, ligament 0%." in said
    assert len(read_video(download(page, "_overlay.mp4", tmp_path))[0]) == 12
    archive = download(page, "_masks_and_curves.zip", tmp_path)
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    annotations = read_landmarks(tmp_path / "unpacked" / "curves.cvat.xml", "cvat")
    assert [len(annotation.landmarks) for annotation in annotations] == [1] * 6 + [2] * 6
    assert page.locator("#video-timeline canvas, #video-timeline svg").count()


def ask_for(server: Server, path: Path) -> None:
    """Asks for a frame's landmarks, as another page does that nobody looks at."""
    [upload] = server.upload(path.name, path.read_bytes()).json()
    view = [list(DEFAULT_LANDMARKS.names), 0.4, ["areas"], "none"]
    server.begin("find_landmarks", uploaded(upload), False, *view)


def test_who_is_refused_can_ask_again(engine, cache, desktop, tmp_path, monkeypatch):
    frame, clip, other = (tmp_path / name for name in ("frame.png", "clip.mp4", "other.png"))
    for path in (frame, other):
        Image.fromarray(colored_frame(("ridge",))).save(path)
    write_video(clip, [colored_frame(("ridge",), 96, 160)] * 2)
    free, started = threading.Event(), threading.Event()
    plain = engine.predict
    monkeypatch.setattr(engine, "predict", lambda *frame: started.set() or (free.wait(30) and plain(*frame)))
    with serving(engine, cache, max_waiting=1) as server:
        page = desktop.new_page()
        page.goto(server.url)
        page.wait_for_selector("#frame-upload button")
        ask_for(server, other)
        assert started.wait(20)
        ask_for(server, other)
        page.set_input_files("#frame-upload input[type=file]", frame)
        assert "busy" in page.locator(".toast-body").inner_text()
        # Ready for a file, the same again for instance, and nothing on the server of the one before.
        page.wait_for_selector("#frame-upload input[type=file]", state="attached")
        assert frame.name not in {file.name for file in server.files()}
        page.get_by_label("Close").first.click()

        page.get_by_role("tab", name="Video").click()
        page.set_input_files("#video-upload input[type=file]", clip)
        page.wait_for_selector("#video-upload a")
        page.get_by_role("button", name="Analyze video").click()
        assert "busy" in page.locator(".toast-body").inner_text()
        free.set()
        while server.handlers.uploads != {str(path) for path in server.files() if path.name == clip.name}:
            page.wait_for_timeout(10)
        page.get_by_role("button", name="Analyze video").click()
        page.wait_for_function("() => document.querySelector('#video-result video')?.videoWidth === 160")
        assert server.handlers.uploads == set()

        page.get_by_role("tab", name="Still frame").click()
        with monkeypatch.context() as full:
            full.setattr(server.handlers.stored, "_max_bytes", 0)
            page.set_input_files("#frame-upload input[type=file]", frame)
            page.get_by_text("The demo's storage is full.").wait_for()
        page.wait_for_selector("#frame-upload input[type=file]", state="attached")
        after(page, lambda: page.set_input_files("#frame-upload input[type=file]", frame))
        page.close()


def test_everything_is_reached_with_the_keyboard_and_has_a_name(watched):
    page = watched.page
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => {
                    const at = document.activeElement, part = at.closest('[id^=frame-]')?.id;
                    const label = at.getAttribute('aria-label') || at.labels?.[0]?.innerText || at.innerText;
                    return [part || at.getAttribute('role') || at.tagName, label?.trim()];
                }"""
            )
        )
    parts = [part for part, _ in reached]
    wanted = ["tab", "frame-upload", "frame-careful", "frame-examples"]
    wanted += ["frame-landmarks", "frame-opacity", "frame-shown", "frame-heat-map", "frame-prepare"]
    first = [parts.index(part) for part in wanted]
    assert first == sorted(first)
    assert all(label for part, label in reached if part in wanted)
    # And used: the space key turns a landmark off.
    box = page.locator("#frame-landmarks").get_by_label("ridge (red)")
    box.focus()
    page.keyboard.press("Space")
    assert not box.is_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_all_of_it(server, browser, tmp_path, scheme):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, color_scheme=scheme
    )
    page = context.new_page()
    page.goto(server.url)
    path = tmp_path / "frame.png"
    Image.fromarray(colored_frame(("ridge",))).save(path)
    after(page, lambda: page.set_input_files("#frame-upload input[type=file]", path))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    table = page.locator("#frame-table table").bounding_box()
    assert table["x"] >= 0
    assert table["x"] + table["width"] <= 390
    # Wherever one has scrolled to.
    for top in (0, 600):
        page.evaluate(f"window.scrollTo(0, {top})")
        notice = page.get_by_text("Research only, not a medical device")
        box = notice.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 844
    context.close()
