"""Which uploads are here, and for how many people: the last one's request deletes the file."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path


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
