"""Where patients' pictures lie while they are here, and how they go."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from demo_frame import Analysis
from demo_limits import UPLOADS_SHARE
from demo_uploads import CountedUploads

from liver_landmark.utils.memory import trim_memory


class AnalysisStore:
    """The newest analysis of each browser tab, so that drawing it otherwise needs no model.

    Old ones go after a time, and the longest unused ones when there are too many.
    """

    def __init__(
        self, max_bytes: float, max_age_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Takes what is kept at most, in bytes of pictures and in seconds since the last use."""
        self._max_bytes, self._max_age_s, self._clock = max_bytes, max_age_s, clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Analysis]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, session: str, analysis: Analysis) -> None:
        """Keeps an analysis instead of the session's last one."""
        with self._lock:
            self._kept.pop(session, None)
            self._kept[session] = (self._clock(), analysis)
            while len(self._kept) > 1 and self._size() > self._max_bytes:
                self._kept.popitem(last=False)

    def get(self, session: str) -> Analysis | None:
        """The session's analysis, or None where it has gone."""
        self.sweep()
        with self._lock:
            if session not in self._kept:
                return None
            self._kept[session] = (self._clock(), self._kept[session][1])
            self._kept.move_to_end(session)
            return self._kept[session][1]

    def drop(self, session: str) -> None:
        """Forgets a session, as when its page was closed."""
        with self._lock:
            self._kept.pop(session, None)

    def sweep(self) -> None:
        """Drops what has not been used for too long."""
        oldest = self._clock() - self._max_age_s
        with self._lock:
            for session in [session for session, (used, _) in self._kept.items() if used < oldest]:
                del self._kept[session]

    def _size(self) -> int:
        return sum(analysis.size_bytes for _, analysis in self._kept.values())


class StoredBytes:
    """How much lies in the server's folder, so that requests end before the disk does.

    Uploads may fill three quarters of what is allowed; the rest is for results of those who are there.
    """

    # Between two looks at the folder, s; thousands of files take some milliseconds.
    _LOOK_EVERY_S = 1.0

    def __init__(self, folder: Path, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the folder and what may lie in it."""
        self._folder, self._max_bytes, self._clock = folder, max_bytes, clock
        self._lock = threading.Lock()
        self._looked_s = -self._LOOK_EVERY_S
        # Seen in the folder; taken since then, or before and not yet whole.
        self._seen = self._taken = self._coming = 0

    def has_room(self, size: int) -> bool:
        """Whether an upload of so many bytes fits at this moment."""
        with self._lock:
            return self._has_room(size)

    def reserve(self, size: int) -> bool:
        """Takes so many bytes of an upload, if they fit; `unreserve` when it has come in, or broken off."""
        with self._lock:
            if not self._has_room(size):
                return False
            self._taken += size
            self._coming += size
            return True

    def unreserve(self, size: int) -> None:
        """Bytes that were reserved no longer come in: they are in the folder, or dropped."""
        with self._lock:
            self._coming -= size

    def is_full(self) -> bool:
        """Whether nothing more should be written."""
        with self._lock:
            return self._bytes() >= self._max_bytes

    def _has_room(self, size: int) -> bool:
        return self._bytes() + size <= UPLOADS_SHARE * self._max_bytes

    def _bytes(self) -> int:
        if self._clock() - self._looked_s >= self._LOOK_EVERY_S:
            self._seen, self._taken = folder_bytes(self._folder), self._coming
            self._looked_s = self._clock()
        return self._seen + self._taken


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    size = 0
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            try:
                size += path.lstat().st_size
            except FileNotFoundError:
                continue
    return size


def sweep_folder(folder: Path, max_age_s: float) -> int:
    """Deletes files below a folder that are older, and folders that are empty; returns how many files.

    Gradio's `delete_cache` knows the files that it finished writing. This gets the others too: uploads that
    broke off, and its own temporary files.
    """
    oldest, deleted = time.time() - max_age_s, 0
    for parent, _, names in os.walk(folder, topdown=False):
        for path in (Path(parent, name) for name in names):
            try:
                if path.lstat().st_ctime <= oldest:
                    path.unlink()
                    deleted += 1
            except FileNotFoundError:
                continue
        if Path(parent) != folder:
            _remove_if_empty(Path(parent), oldest)
    return deleted


def _remove_if_empty(folder: Path, oldest: float) -> None:
    try:
        if folder.lstat().st_ctime <= oldest:
            folder.rmdir()
    except OSError:
        # Not empty, or gone: a new upload, or Gradio's own sweep.
        return


class Sweeper(threading.Thread):
    """Sweeps the server's folder and memory from time to time, until it is stopped."""

    def __init__(self, folder: Path, store: AnalysisStore, uploads: CountedUploads, max_age_s: float) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._folder, self._store, self._uploads, self._max_age_s = folder, store, uploads, max_age_s
        self._stopped = threading.Event()

    @property
    def interval_s(self) -> float:
        """Time between two sweeps: a file lives, and memory grows, at most so much longer than it should."""
        return min(10.0, max(1.0, self._max_age_s / 5))

    def run(self) -> None:
        while not self._stopped.wait(self.interval_s):
            sweep_folder(self._folder, self._max_age_s)
            self._uploads.forget_missing()
            self._store.sweep()
            trim_memory()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
