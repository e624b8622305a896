"""A live session of stand-ins, and its page, that are always ended."""

from __future__ import annotations

from contextlib import ExitStack, closing

import pytest

from liver_landmark.streaming import LiveOptions, LiveServer, LiveSession

from .stand_ins import CAMERA, Source, StandInModel


@pytest.fixture
def make_session():
    """Builds sessions of a stand-in source and model, and ends them after the test."""
    sessions: list[LiveSession] = []

    def make(source, model=None, address=CAMERA, **options) -> LiveSession:
        session = LiveSession(address, model or StandInModel(), LiveOptions(**options), open_source=source)
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.stop()


@pytest.fixture
def start_session(make_session):
    """Builds sessions as `make_session` does, and starts them."""

    def start(*arguments, **options) -> LiveSession:
        session = make_session(*arguments, **options)
        session.start()
        return session

    return start


@pytest.fixture
def serve(start_session):
    """Starts sessions, and the pages that show them."""
    with ExitStack() as stack:

        def start(source, *arguments, **options) -> LiveServer:
            server = LiveServer(start_session(source, *arguments), port=0, **options)
            stack.enter_context(closing(server)).start()
            return server

        yield start


@pytest.fixture
def server(serve):
    """The page of a running session at 100 frames a second."""
    return serve(Source())
