"""Where patients' pictures lie while they are here, and how they go."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from demo_frame import Analysis


class CountedUploads(set[str]):
    """Gradio's list of uploaded files, which also knows how often each was uploaded.

    Gradio names an upload by its content, so that two people with the same file share one on disk: it goes
    when the last of them is done with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock, self._waiting = threading.Lock(), Counter[str]()

    def __iter__(self) -> Iterator[str]:
        # Gradio's clean-up goes through them in its own thread, and would end where they change meanwhile.
        with self._lock:
            return iter(tuple(super().__iter__()))

    def update(self, *paths: Iterable[str]) -> None:
        """What Gradio calls after each upload."""
        with self._lock:
            for path in (str(path) for some in paths for path in some):
                if path not in self:
                    # Gradio's clean-up takes a path from the set and knows no count.
                    self._waiting[path] = 0
                self.add(path)
                self._waiting[path] += 1

    def release(self, path: str) -> None:
        """One user of an upload is done with it; deletes the file if it was the last."""
        with self._lock:
            if path not in self:
                # Never uploaded, or deleted already: not ours to delete.
                return
            self._waiting[path] -= 1
            if self._waiting[path] <= 0:
                del self._waiting[path]
                self.discard(path)
                Path(path).unlink(missing_ok=True)

    def forget_missing(self) -> None:
        """Drops uploads whose files were swept: their users were refused, or left."""
        with self._lock:
            for path in tuple(self._waiting):
                if path not in self or not Path(path).exists():
                    self.discard(path)
                    del self._waiting[path]


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
        """Time between two sweeps: a file lives at most this much longer than its age allows."""
        return min(60.0, max(1.0, self._max_age_s / 5))

    def run(self) -> None:
        while not self._stopped.wait(self.interval_s):
            sweep_folder(self._folder, self._max_age_s)
            self._uploads.forget_missing()
            self._store.sweep()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
