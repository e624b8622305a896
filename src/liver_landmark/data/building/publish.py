"""A built set to the Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, XetDownloadError
from huggingface_hub.utils import validate_repo_id

from .finished_set import REPORT_FILE
from .writer import BUILD_FILE

# They name the raw files, which may say more than the set should.
LEFT_AT_HOME: tuple[str, ...] = (REPORT_FILE, BUILD_FILE)


class PublishError(ValueError):
    """The Hub did not take the set; the message is one line."""


def check_repo_id(repo_id: str) -> None:
    """Raises a ValueError where no data set on the Hub can be called so."""
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise ValueError(f"--push-to-hub {repo_id!r}: {_one_line(error)}") from None


def publish(folder: Path, repo_id: str, *, public: bool = False, api: HfApi | None = None) -> str:
    """Uploads a built set, without the files that name raw files.

    Args:
        folder: What `build_raw_set` or `build_synthetic` wrote.
        repo_id: `user/name`; made where it does not exist.
        public: A repository that is made anew can be seen by everyone; one that exists stays as it is.
        api: None takes the user's own.

    Returns:
        The repository's address.

    Raises:
        PublishError: the Hub refuses or is not reached; the folder is whole all the same.
    """
    api = api or HfApi()
    try:
        repository = api.create_repo(repo_id, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Built by liver-landmark's scripts/build_dataset.py",
            ignore_patterns=list(LEFT_AT_HOME),
            # A set with fewer shards must not leave those of the former one behind.
            delete_patterns=["data/*.parquet"],
        )
    except (HTTPError, XetDownloadError, OSError, ValueError) as error:
        raise PublishError(f"{folder} is built, but {repo_id} was not pushed: {_one_line(error)}") from error
    return str(repository)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
