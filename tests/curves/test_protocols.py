"""The protocol table against the published settings, written out here a second time."""

import pytest

from liver_landmark.curves import PROTOCOLS, get_protocol
from liver_landmark.curves.rasterize import AS_DRAWN, check_label_protocol

# name: stroke px at 1920x1080, stroke px at 3840x2160, label's resize, prediction's resize
PUBLISHED = {
    "d2gpland": (30, 30, "bilinear", "bilinear"),
    "d2gpland_plus": (35, 70, "nearest", "bilinear"),
    "toponet": (35, 35, "nearest", "bilinear"),
    "srft_galore": (30, 30, "bilinear", "nearest"),
    "slippa": (12, 12, "nearest", "bilinear"),
    "p2ilf": (12, 12, "nearest", "bilinear"),
    "synthetic": (30, 60, "nearest_exact", "bilinear"),
}


def test_every_protocol_is_checked_here():
    assert set(PROTOCOLS) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_the_published_ones(name):
    stroke_hd, stroke_4k, label_resize, prediction_resize = PUBLISHED[name]
    protocol = get_protocol(name)
    assert protocol.native_stroke_width_px(1920, 1080) == stroke_hd
    assert protocol.native_stroke_width_px(3840, 2160) == stroke_4k
    assert protocol.label_resize == label_resize
    assert protocol.prediction_resize == prediction_resize


def test_synthetic_strokes_are_relative_to_the_frames_width():
    protocol = get_protocol("synthetic")
    assert protocol.canvas_size(456, 256) == (1920, 1078)
    assert protocol.native_stroke_width_px(456, 256) == pytest.approx(30 / 1920 * 456)
    assert protocol.native_stroke_width_px(256, 256) == pytest.approx(30 / 1920 * 256)


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match=r"protocol 'l3d' is unknown: choose one of d2gpland, d2gpland_plus"):
        get_protocol("l3d")


def test_a_label_follows_a_protocol_or_is_as_drawn():
    assert [check_label_protocol(name) for name in ("slippa", AS_DRAWN)] == ["slippa", "as_drawn"]
    with pytest.raises(ValueError, match=r"protocol 'drawn' is unknown: choose one of .* or as_drawn for"):
        check_label_protocol("drawn")
    # Nothing can be drawn by it.
    with pytest.raises(ValueError, match="protocol 'as_drawn' is unknown"):
        get_protocol(AS_DRAWN)
