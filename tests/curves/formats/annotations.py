"""Arbitrary valid annotations, and arbitrary damage to files, for the tests of every format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from liver_landmark.curves.formats import AnnotationError, FrameAnnotation

CATEGORIES = ("ridge", "silhouette", "ligament")
# Near the frame and far from it, on whole px, between them and where float64 is fine.
COORDINATES = (
    st.integers(-50, 4000).map(float)
    | st.integers(-20_000, 400_000).map(lambda hundredths: hundredths / 100)
    | st.floats(-(2.0**24), 2.0**24)
)
# All that a file can be called, and all that XML can say of it.
FILE_NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)
XML_FILE_NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r"),
    min_size=1,
    max_size=20,
)
SIZES = st.integers(1, 10_000)


def curves(least_distance: float) -> st.SearchStrategy[dict[str, Any]]:
    """Polylines of which two points at least are that many px apart along an axis."""

    def far_apart(points: list[tuple[float, float]]) -> bool:
        # As float32 too, in which sets are stored.
        return (np.ptp(np.float32(points), axis=0) > least_distance).any()

    points = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=2, max_size=8).filter(far_apart)
    return st.fixed_dictionaries({"category": st.sampled_from(CATEGORIES), "points": points})


def annotations(
    names: st.SearchStrategy[str] = FILE_NAMES, least_distance: float = 0.0
) -> st.SearchStrategy[FrameAnnotation]:
    """Frames with any number of curves in any order."""
    return st.builds(
        FrameAnnotation,
        names,
        SIZES,
        SIZES,
        st.lists(curves(least_distance), max_size=6),
        tolerated=st.just(()),
    )


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file with pieces cut out, doubled, replaced or put in."""
    data = valid
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 30)))
        piece = draw(
            st.just(b"")
            | st.just(2 * data[start:stop])
            | st.binary(max_size=8)
            | st.sampled_from(
                [b"NaN", b"-1", b"1e999", b"null", b"[", b"{}", b'"', b"<a>", b"&x;", b",", b"\xff"]
            )
        )
        data = data[:start] + piece + data[stop:]
    return data


def refusal(parse: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The one line of the AnnotationError that a call raises, without the file's name `frame.x`."""
    with pytest.raises(AnnotationError) as caught:
        parse(*arguments, **options)
    text = str(caught.value)
    assert text.isprintable(), "more than one line"
    assert text.startswith("frame.x: ")
    assert len(text) < 400
    return text.removeprefix("frame.x: ")
