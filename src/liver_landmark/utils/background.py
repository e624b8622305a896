"""Work done ahead in threads, kept in order and within bounds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Full, Queue
from typing import TypeVar

# Threads beyond these cost memory and bring nothing: the rest waits for the interpreter.
_MAX_WORKERS = 8
# How often a thread that waits looks whether it is still wanted.
_LOOK_UP_S = 0.1

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def ordered_map(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    workers: int,
    cost: Callable[[_Item], int] = lambda item: 0,
    budget: int = 0,
) -> Iterator[_Result]:
    """`map` in threads: results in order, never more than a few, or than the budget, ahead of who takes them.

    Decoding and encoding release the interpreter; processes would each hold the libraries once more.

    Args:
        work: What is done to each item.
        items: Taken one by one.
        workers: Threads, of which at most 8 are used.
        cost: What an item takes from its start until its result is taken.
        budget: What all items between start and taking may cost together; one that costs more is alone.
    """
    workers = max(1, min(workers, _MAX_WORKERS))
    pool = ThreadPoolExecutor(workers)
    pending: deque[tuple[int, Future[_Result]]] = deque()
    try:
        for item in items:
            share = cost(item)
            while pending and (len(pending) > workers or share + sum(taken for taken, _ in pending) > budget):
                yield pending.popleft()[1].result()
            pending.append((share, pool.submit(work, item)))
        while pending:
            yield pending.popleft()[1].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_background(items: Iterable[_Item], ahead: int) -> Iterator[_Item]:
    """The same items, made by a thread that is at most `ahead` of who takes them.

    What the iteration raises is raised here, in its place. Closing this iterator stops the thread at its next
    item, closes `items` if it is a generator, and waits for both.
    """
    queue: Queue[tuple[str, object]] = Queue(max(1, ahead))
    stopped = threading.Event()

    def put(entry: tuple[str, object]) -> bool:
        while not stopped.is_set():
            try:
                queue.put(entry, timeout=_LOOK_UP_S)
            except Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    break
            else:
                put(("end", None))
        # Whatever it is, it belongs to who takes the items.
        except BaseException as error:  # noqa: BLE001
            put(("error", error))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=make, daemon=True, name="in_background")
    thread.start()
    try:
        while True:
            # With a timeout, since a wait without one cannot be interrupted on every system.
            try:
                kind, value = queue.get(timeout=_LOOK_UP_S)
            except Empty:
                continue
            if kind == "end":
                return
            if kind == "error":
                raise value  # type: ignore[misc]
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
