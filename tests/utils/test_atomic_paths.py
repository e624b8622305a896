"""Complete files or none."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from liver_landmark.utils.atomic_files import (
    atomic_path,
    partial_target,
    write_json,
    write_json_lines,
    write_png,
)


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half_written():
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_written()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_complete(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1)


@given(NAMES.filter(lambda name: name.strip(".")))
def test_a_temporary_name_tells_what_it_was_to_become(name):
    # Nothing is written, so that there is nothing to rename.
    with suppress(FileNotFoundError), atomic_path(Path("folder", name)) as temporary:
        assert temporary.name != name
        assert partial_target(temporary.name) == name


@pytest.mark.parametrize(
    "name",
    [
        "a.0123abcd.partial.png",
        ".a.0123abc.partial.png",
        ".a.0123abcde.partial.png",
        ".a.0123ABCD.partial.png",
        ".a.0123abcd.partly.png",
        ".a.0123abcd.partial.png.bak",
        ".0123abcd.partial.png",
        ".a.png",
    ],
)
def test_names_that_only_look_temporary_are_told_apart(name):
    assert partial_target(name) is None


def test_png_json_and_lines_come_back(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_png(tmp_path / "ids.png", ids)
    with Image.open(tmp_path / "ids.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), ids)
    content = {"name": "Bauchspiegelung äöü", "path": "caf\udce9", "values": [1, None]}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text()) == content
    write_json_lines(tmp_path / "a.jsonl", [content, {}])
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [content, {}]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "nan.json", {"value": float("nan")})
    assert not (tmp_path / "nan.json").exists()
