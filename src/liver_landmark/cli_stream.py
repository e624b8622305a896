"""`liver-landmark stream SOURCE`: the landmarks of a camera, a stream or a video, live on a page.

Exit codes: 0 the file ended or the command was stopped; 1 the source broke for good; 2 the source or the
model cannot be opened.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_options import CommandError, positive_int

if TYPE_CHECKING:
    from .streaming import LiveModel, LiveSession

# What takes seconds to import is imported when the command runs.

# Seconds in which open pages hear that the session is over.
_LAST_WORD_S = 1.0


def add_stream_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `stream` to the parser of all commands."""
    parser = commands.add_parser(
        "stream",
        help="landmarks of a camera, live on a page",
        description=(
            "Shows the newest frame of a camera, a stream or a video with its landmarks on a page of this "
            "machine. Frames that the model has no time for are dropped: what is shown is never late. "
            "Nothing is written to disk but --stats."
        ),
        epilog="Exit codes: 0 the file ended, or Ctrl-C; 1 the source broke; 2 nothing was opened.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="camera index (0), /dev/video0, rtsp:// or http:// URL, or a video file",
    )
    parser.add_argument("--model", required=True, help="folder of a trained model, or a Hub id")
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, mps (default: an accelerator where there is one)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="precision of the forward pass (default: %(default)s)",
    )
    parser.add_argument(
        "--smoothing",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="smoothing over time; landmarks follow by up to so much (default: none)",
    )
    parser.add_argument("--loop", action="store_true", help="start a file over at its end")
    parser.add_argument(
        "--camera-size", type=_size, metavar="WxH", help="ask the camera for this size (default: its own)"
    )
    parser.add_argument(
        "--reconnect",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long a camera or stream that broke is tried again (default: %(default)g)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=8765, help="port to listen on, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--open", action=argparse.BooleanOptionalAction, default=False, help="open the page in a browser"
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.4,
        help="opacity that the page starts with, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--max-width",
        type=positive_int,
        default=1280,
        metavar="PX",
        help="the page's picture is reduced to it; the model sees the whole frame (default: %(default)s)",
    )
    parser.add_argument(
        "--quality", type=positive_int, default=85, help="of the page's JPEG, 1 to 100 (default: %(default)s)"
    )
    parser.add_argument(
        "--stats", type=Path, metavar="FILE", help="write the session's times as JSON at its end"
    )
    parser.set_defaults(run=_stream)


def _stream(arguments: argparse.Namespace) -> int:
    from .streaming import (
        CaptureOptions,
        LiveOptions,
        LiveServer,
        LiveSession,
        PictureOptions,
        SourceError,
        is_loopback,
        parse_source,
    )

    if arguments.stats is not None and not arguments.stats.absolute().parent.is_dir():
        raise CommandError(f"--stats {arguments.stats}: there is no folder {arguments.stats.parent}")
    try:
        address = parse_source(arguments.source)
        picture = PictureOptions(arguments.max_width, arguments.quality, arguments.alpha)
        session = LiveSession(
            address,
            _model(arguments),
            LiveOptions(CaptureOptions(arguments.loop, arguments.camera_size), arguments.reconnect),
        )
    except (SourceError, ValueError) as error:
        raise CommandError(str(error)) from error
    try:
        server = LiveServer(session, arguments.host, arguments.port, picture)
    except OSError as error:
        raise CommandError(
            f"{arguments.host} port {arguments.port}: {error.strerror}: choose another --port or --host"
        ) from error
    try:
        try:
            session.start()
        except SourceError as error:
            raise CommandError(str(error)) from error
        with _stopped_by_signals() as stopped:
            server.start()
            print(f"{address.shown} is shown at {server.url} (Ctrl-C ends it)", flush=True)
            if not is_loopback(arguments.host):
                print(
                    f"warning: everyone who reaches {arguments.host} can watch: there is no password and no "
                    "encryption",
                    file=sys.stderr,
                )
            if arguments.open:
                webbrowser.open(server.url)
            while not stopped.is_set() and not session.finished.wait(0.2):
                pass
            session.stop()
            time.sleep(_LAST_WORD_S)
    finally:
        server.close()
    return _report(session, arguments)


def _model(arguments: argparse.Namespace) -> LiveModel:
    import torch

    from .cli_options import quiet_libraries
    from .inference import LandmarkPredictor
    from .inference.smoothing import CausalSmoother
    from .streaming import LiveModel

    quiet_libraries()
    predictor = LandmarkPredictor.from_pretrained(
        arguments.model, device=arguments.device, dtype=getattr(torch, arguments.dtype)
    )
    return LiveModel(predictor, CausalSmoother(arguments.smoothing) if arguments.smoothing else None)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; repeating them, as some supervisors do, changes nothing."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        stopped.set()

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(session: LiveSession, arguments: argparse.Namespace) -> int:
    from .utils.atomic_files import write_json

    times = session.times.summary()
    latency = times["latency_ms"]
    measured = (
        "no frame was shown on a page"
        if latency is None
        else f"capture to display {latency['median']:.0f} ms (median), {latency['p95']:.0f} ms (95 %)"
    )
    print(
        f"{times['seconds']:.1f} s: {times['captured']} frames captured, {times['processed']} processed, "
        f"{times['shown']} shown, {times['dropped']} dropped; {measured}"
    )
    failed = session.error is not None
    if failed:
        print(f"error: {session.error}", file=sys.stderr)
    if arguments.stats is not None:
        content = {
            "source": session.address.shown,
            "model": arguments.model,
            "smoothing_s": arguments.smoothing,
        }
        content |= {"error": session.error, **times}
        try:
            write_json(arguments.stats, content)
        except OSError as error:
            print(f"error: {arguments.stats} cannot be written: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, 0 or more")
    return value


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port, 0 to 65535")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not all(side.isascii() and side.isdecimal() and int(side) > 0 for side in (width, height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size, expected 1920x1080")
    return int(width), int(height)
