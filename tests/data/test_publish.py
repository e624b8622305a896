"""A built set goes to the Hub without what names raw files, or says in one line why not."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects

from liver_landmark.data.build import PublishError, check_repo_id, publish


class HubStandIn:
    """Keeps what would have been uploaded, as the Hub's own client chooses it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.private: bool | None = None
        self.files = {"data/train-00009-of-00010.parquet": b"of a former version"}

    def create_repo(self, repo_id, *, repo_type, private, exist_ok):
        assert (repo_type, exist_ok) == ("dataset", True)
        self.private = private
        return f"https://hub.example/datasets/{repo_id}"

    def upload_folder(
        self, *, repo_id, repo_type, folder_path, commit_message, ignore_patterns, delete_patterns
    ):
        assert repo_type == "dataset"
        assert commit_message
        if self.error:
            raise self.error
        for name in list(self.files):
            if any(fnmatch.fnmatch(name, pattern) for pattern in delete_patterns):
                del self.files[name]
        paths = [path for path in Path(folder_path).rglob("*") if path.is_file()]
        names = [path.relative_to(folder_path).as_posix() for path in paths]
        for name in filter_repo_objects(names, ignore_patterns=ignore_patterns):
            self.files[name] = (Path(folder_path) / name).read_bytes()


@pytest.fixture
def folder(tmp_path):
    for name in (
        "README.md",
        "contact_sheet.png",
        "report.json",
        "build.json",
        "data/train-00000-of-00001.parquet",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_the_set_is_pushed_without_the_names_of_raw_files(folder):
    hub = HubStandIn()
    assert publish(folder, "user/set", api=hub) == "https://hub.example/datasets/user/set"
    assert sorted(hub.files) == ["README.md", "contact_sheet.png", "data/train-00000-of-00001.parquet"]
    assert hub.private is True
    publish(folder, "user/set", public=True, api=hub)
    assert hub.private is False


@pytest.mark.parametrize(
    "error",
    [LocalTokenNotFoundError("no token:\nlog in"), ConnectionError("not\nreached"), ValueError("bad\nid")],
)
def test_what_the_hub_says_is_one_line(folder, error):
    with pytest.raises(PublishError, match="is built, but user/set was not pushed") as caught:
        publish(folder, "user/set", api=HubStandIn(error))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("repo_id", ["user/set/more", "user/ set", "-user/set", ""])
def test_names_that_no_set_can_have_are_refused(repo_id):
    with pytest.raises(ValueError, match="--push-to-hub") as caught:
        check_repo_id(repo_id)
    assert str(caught.value).isprintable()
    check_repo_id("user/liver-landmarks_2")
