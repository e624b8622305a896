"""A live session of stand-ins, and its page, that are always ended."""

from __future__ import annotations

from contextlib import closing

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
def server(make_session):
    """The page of a running session at 100 frames a second."""
    session = make_session(Source())
    session.start()
    with closing(LiveServer(session, port=0)) as server:
        server.start()
        yield server
