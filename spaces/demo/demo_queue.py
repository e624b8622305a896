"""Gradio's queue, and what becomes of uploads whose turn never comes."""

from __future__ import annotations

from typing import Any

from gradio.queueing import Event, Queue


class WatchedQueue(Queue):
    """Tells the page of requests that will not run: refused as too many, stopped, or their page was closed.

    The page is a `GuardedBlocks`; its `let_go` hears of each.
    """

    @classmethod
    def like(cls, queue: Queue) -> WatchedQueue:
        """An empty queue with the settings of another."""
        return cls(
            queue.live_updates,
            queue.max_thread_count,
            queue.update_intervals,
            queue.max_size,
            queue.blocks,
            queue.default_concurrency_limit,
        )

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Takes a request, or refuses it when too many wait."""
        answer = await super().push(body, request, username)
        if answer[2] == "queue_full":
            self.blocks.let_go(self.blocks.fns[body.fn_index], body.data, may_ask_again=True)
        return answer

    async def clean_events(self, *, session_hash: str | None = None, event_id: str | None = None) -> None:
        """Drops what a page waits for, as when it was closed."""
        waiting = self._waiting()
        await super().clean_events(session_hash=session_hash, event_id=event_id)
        self._let_go_of_dropped(waiting)

    async def remove_from_queue(self, event_id: str) -> None:
        """Drops one request, as when its user pressed Stop."""
        waiting = self._waiting()
        await super().remove_from_queue(event_id)
        self._let_go_of_dropped(waiting)

    def _waiting(self) -> list[Event]:
        return [event for queue in self.event_queue_per_concurrency_id.values() for event in queue.queue]

    def _let_go_of_dropped(self, waiting: list[Event]) -> None:
        for event in waiting:
            # Those that run now are still known: their function deletes what it was given.
            if event._id not in self.event_ids_to_events and event.data is not None:
                self.blocks.let_go(event.fn, event.data.data, may_ask_again=False)
