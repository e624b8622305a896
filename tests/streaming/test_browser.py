"""The page in a real browser: what is drawn, what the keys do, and that it talks to nobody else."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pytest

from liver_landmark.streaming import PictureOptions

from .stand_ins import Source, StandInModel, wait_for

pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.sync_api import Error, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # The sandbox needs what containers and root do not have.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def model():
    """A model that marks the left half of each frame as ridge."""
    return StandInModel(seconds=0.02)


@pytest.fixture
def live(serve, model):
    """The page of a session at 50 frames a second of 64 × 48 px."""
    return serve(Source(per_s=50, size=(48, 64)), model, options=PictureOptions(quality=95, alpha=1.0))


@pytest.fixture
def page(browser, live):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.problems, page.addresses = [], set()
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.addresses.add(request.url.split("?")[0]))
    page.goto(live.url)
    page.locator("#latency").filter(has_text="ms").wait_for()
    yield page
    context.close()


def drawn(page) -> np.ndarray:
    """(left, right) mean colors of the picture, as the canvas holds it."""
    values = page.evaluate(
        """() => {
            const canvas = document.getElementById("picture");
            const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
            copy.drawImage(canvas, 0, 0);
            const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
            return { data: Array.from(data), width: canvas.width, height: canvas.height };
        }"""
    )
    pixels = np.array(values["data"]).reshape(values["height"], values["width"], 4)[..., :3]
    return np.stack([pixels[8:-8, 8:24].mean(axis=(0, 1)), pixels[8:-8, 40:-8].mean(axis=(0, 1))])


def is_red(color) -> bool:
    return bool(color[0] > 200 and color[1] < 60 and color[2] < 60)


def test_the_newest_frame_is_drawn_and_its_latency_measured(page, live):
    left, right = drawn(page)
    assert is_red(left)
    assert np.ptp(right) < 8  # gray
    assert page.locator("#landmarks output").nth(0).inner_text() == "in the frame (90 %)"
    assert page.locator("#landmarks output").nth(1).inner_text() == "not found (25 %)"
    assert page.locator("#calibration").is_hidden()
    assert page.locator("#message").inner_text() == ""
    assert "not a medical device" in page.locator("body").inner_text()
    # The page shows frames as they come, and the program's own measure agrees with how old they are.
    shown = live.session.times.summary()["shown"]
    time.sleep(1.0)
    summary = live.session.times.summary()
    assert summary["shown"] - shown >= 5
    assert 20 <= summary["latency_ms"]["median"] < 1000
    assert page.problems == []
    assert {address.removeprefix(live.url) for address in page.addresses} <= {
        "", "page.css", "page.js", "frame", "shown", "pause",
    }  # fmt: skip


def test_toggles_opacity_and_pause_by_key_and_by_click(page, live):
    page.keyboard.press("1")
    wait_for(lambda: not is_red(drawn(page)[0]))
    page.get_by_label("ridge").check()
    wait_for(lambda: is_red(drawn(page)[0]))
    page.keyboard.press("p")
    page.locator("#message").filter(has_text="Paused.").wait_for()
    wait_for(lambda: page.get_by_role("button", name="Pause").get_attribute("aria-pressed") == "true")
    # A paused frame is redrawn, and stays the same one.
    held = live.session.wait_newer(0, -1, 1).number
    for _ in range(10):
        page.keyboard.press("ArrowDown")
    wait_for(lambda: not is_red(drawn(page)[0]))
    assert page.get_by_label("opacity").input_value() == "50"
    wait_for(lambda: abs(drawn(page)[0][0] - (255 + held % 256) / 2) < 12)
    assert live.session.wait_newer(0, -1, 1).number == held
    page.get_by_role("button", name="Pause").click()
    wait_for(lambda: live.session.wait_newer(0, -1, 1).number > held)
    wait_for(lambda: page.locator("#message").inner_text() == "")
    assert page.problems == []


def test_everything_is_reached_by_tab_and_fits_a_phone(page):
    reached = []
    for _ in range(7):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.name || document.activeElement.id"))
    assert reached[:6] == ["ridge", "silhouette", "ligament", "opacity", "pause", "whole"]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    folder = os.environ.get("LIVER_LANDMARK_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/live_phone.png")


def test_a_frozen_picture_is_not_taken_for_a_live_one(page, live):
    live.session.stop()
    page.locator("#message").filter(has_text="The program was stopped.").wait_for()
    page.locator("#stage.old").wait_for()
    live.close()
    with pytest.raises(Error):
        page.context.new_page().goto(live.url)


def test_a_picture_stays_dimmed_when_the_program_is_gone(page, live):
    live.close()
    page.locator("#message").filter(has_text="The program does not answer").wait_for()
    assert page.locator("#stage.old").count() == 1
    page.wait_for_function("newest === 0")  # it has asked another time
    page.wait_for_timeout(1200)
    assert page.locator("#stage.old").count() == 1


def test_a_frozen_picture_that_is_redrawn_stays_dimmed(page, model):
    # Dimmed after two seconds; on a busy machine what follows may take some more.
    model.seconds = 9.0
    page.locator("#stage.old").wait_for()
    page.keyboard.press("1")
    wait_for(lambda: not is_red(drawn(page)[0]))
    assert page.locator("#stage.old").count() == 1
    assert "No new frame for" in page.locator("#message").inner_text()


def test_a_page_that_was_hidden_does_not_show_its_last_picture_as_live(page, model, live):
    # A hidden page gets no refreshes; a headless browser hides none.
    page.evaluate(
        """() => {
            const refresh = window.requestAnimationFrame, waiting = [];
            let hidden = false, still = true;
            window.requestAnimationFrame = (draw) => (still ? waiting.push(draw) : refresh(draw));
            Object.defineProperty(document, "hidden", { get: () => hidden });
            window.hide = (value) => {
                hidden = value;
                document.dispatchEvent(new Event("visibilitychange"));
                if (hidden) return;
                still = false;
                waiting.splice(0).forEach((draw) => refresh(draw));
            };
        }"""
    )
    page.wait_for_timeout(200)  # a picture is under way
    page.evaluate("hide(true)")
    model.seconds = 3.5
    page.wait_for_timeout(2300)
    shown, last = live.session.times.summary()["shown"], page.evaluate("newest")
    page.evaluate("hide(false)")
    page.wait_for_function(f"newest > {last}")
    page.wait_for_timeout(100)
    assert page.locator("#stage.old").count() == 1
    # The picture that was under way meanwhile measures nothing; the newest one does.
    assert live.session.times.summary()["shown"] <= shown + 1
