"""One place, newest wins: against a plain list of all that was put."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from liver_landmark.streaming.session import Newest


@given(st.lists(st.sampled_from(["put", "take"]), max_size=30))
def test_what_is_taken_is_the_last_that_was_put(steps):
    newest, waiting, number = Newest(), [], 0
    for step in steps:
        if step == "put":
            number += 1
            assert newest.put(number) == bool(waiting)
            waiting.append(number)
        elif waiting:
            assert newest.take() == waiting[-1]
            waiting.clear()
    newest.close()
    assert newest.take() == (waiting[-1] if waiting else None)
    assert newest.take() is None


def test_a_reader_waits_for_an_item_and_for_the_end():
    newest, taken = Newest(), []

    def read():
        while (item := newest.take()) is not None:
            taken.append(item)

    reader = threading.Thread(target=read)
    reader.start()
    newest.put("a")
    newest.close()
    reader.join(5)
    assert not reader.is_alive()
    assert taken == ["a"]
