"""The page's JPEG against the frame and the mask that it was made from."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from liver_landmark.streaming import PictureOptions
from liver_landmark.streaming.server import Look, PictureMaker
from liver_landmark.streaming.session import Result

from .stand_ins import StandInModel


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


@pytest.mark.parametrize("look", [{"alpha": 1.1}, {"alpha": float("nan")}, {"landmarks": ("liver",)}])
def test_looks_are_checked(look):
    with pytest.raises(ValueError, match=r"alpha must lie|landmarks are"):
        PictureMaker().jpeg(result(), Look(**look))


@pytest.mark.parametrize("options", [{"max_width": 8}, {"quality": 0}, {"quality": 101}, {"alpha": -1}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PictureOptions(**options)
