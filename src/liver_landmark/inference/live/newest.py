"""A place for one thing between two threads, where a newer one replaces what nobody took."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Holds the newest item only: the reader is never behind by more than the item it works on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Offers an item; True where it replaced one that nobody had taken."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify_all()
            return replaced

    def take(self) -> T | None:
        """Waits for an item and takes it; None once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """No more items will come: what is there can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
