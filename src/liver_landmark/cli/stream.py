"""`liver-landmark stream SOURCE`: the landmarks of a camera, a stream or a video, live on a page."""

from __future__ import annotations

import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    CommandError,
    DeviceOption,
    Dtype,
    DtypeOption,
    ModelOption,
    announce,
    finite,
    parse_size,
    quiet_libraries,
)

if TYPE_CHECKING:
    from ..streaming import LiveModel, LiveSession

# Seconds in which open pages hear that the session is over.
_LAST_WORD_S = 1.0
_SOURCE, _PAGE = "Source", "Page"


def stream(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Camera index (0), /dev/video0, rtsp:// or http:// URL, or a video file."
        ),
    ],
    model: ModelOption,
    smoothing: Annotated[
        float,
        typer.Option(
            "--smoothing",
            metavar="SECONDS",
            min=0,
            callback=finite,
            help="Smoothing over time; landmarks follow by up to so much.",
        ),
    ] = 0.0,
    stats: Annotated[
        Path | None,
        typer.Option("--stats", metavar="FILE", help="Write the session's times as JSON at its end."),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = "float32",
    loop: Annotated[
        bool, typer.Option("--loop", help="Start a file over at its end.", rich_help_panel=_SOURCE)
    ] = False,
    camera_size: Annotated[
        str | None,
        typer.Option(
            "--camera-size",
            metavar="WxH",
            help="Ask the camera for this size. Default: its own.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    reconnect: Annotated[
        float,
        typer.Option(
            "--reconnect",
            metavar="SECONDS",
            min=0,
            callback=finite,
            help="How long a camera or stream that broke is tried again.",
            rich_help_panel=_SOURCE,
        ),
    ] = 60.0,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on.", rich_help_panel=_PAGE)
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, help="Port to listen on, 0 for a free one.", rich_help_panel=_PAGE
        ),
    ] = 8765,
    open: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.", rich_help_panel=_PAGE)
    ] = False,
    alpha: Annotated[
        float,
        typer.Option(
            "--alpha",
            min=0,
            max=1,
            help="Opacity of the landmarks that the page starts with.",
            rich_help_panel=_PAGE,
        ),
    ] = 0.4,
    max_width: Annotated[
        int,
        typer.Option(
            "--max-width",
            metavar="PX",
            min=1,
            help="The page's picture is reduced to this width; the model sees the whole frame.",
            rich_help_panel=_PAGE,
        ),
    ] = 1280,
    quality: Annotated[
        int,
        typer.Option("--quality", min=1, max=100, help="Of the page's JPEG.", rich_help_panel=_PAGE),
    ] = 85,
) -> int:
    """Show the landmarks of a camera, a stream or a video, live on a page of this machine.

    Frames that the model has no time for are dropped: what is shown is never late. Nothing is written to disk
    but --stats. It ends with the file, or by Ctrl-C; the exit code is 1 where the source broke for good.
    """
    size = None if camera_size is None else parse_size(camera_size, "--camera-size")
    if stats is not None and not stats.absolute().parent.is_dir():
        raise CommandError(f"--stats {stats}: there is no folder {stats.parent}")
    announce(f"loading model {model}")
    from ..streaming import (
        CaptureOptions,
        LiveOptions,
        LiveServer,
        LiveSession,
        PictureOptions,
        SourceError,
        is_loopback,
        parse_source,
    )

    try:
        address = parse_source(source)
        picture = PictureOptions(max_width, quality, alpha)
        session = LiveSession(
            address,
            _model(model, device, dtype, smoothing),
            LiveOptions(CaptureOptions(loop, size), reconnect),
        )
    except (SourceError, ValueError) as error:
        raise CommandError(str(error)) from error
    try:
        server = LiveServer(session, host, port, picture)
    except OSError as error:
        raise CommandError(
            f"{host} port {port}: {error.strerror}: choose another --port or --host"
        ) from error
    try:
        announce(f"opening {address.shown}")
        try:
            session.start()
        except SourceError as error:
            raise CommandError(str(error)) from error
        with _stopped_by_signals() as stopped:
            server.start()
            print(f"{address.shown} is shown at {server.url} (Ctrl-C ends it)", flush=True)
            if not is_loopback(host):
                print(
                    f"warning: everyone who reaches {host} can watch: there is no password and no encryption",
                    file=sys.stderr,
                )
            if open:
                webbrowser.open(server.url)
            while not stopped.is_set() and not session.finished.wait(0.2):
                pass
            session.stop()
            time.sleep(_LAST_WORD_S)
    finally:
        server.close()
    return _report(session, stats, {"model": model, "smoothing_s": smoothing})


def _model(model: str, device: str | None, dtype: Dtype, smoothing_s: float) -> LiveModel:
    import torch

    from ..inference import LandmarkPredictor
    from ..inference.smoothing import CausalSmoother
    from ..streaming import LiveModel

    quiet_libraries()
    predictor = LandmarkPredictor.from_pretrained(model, device=device, dtype=getattr(torch, dtype))
    return LiveModel(predictor, CausalSmoother(smoothing_s) if smoothing_s else None)


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


def _report(session: LiveSession, stats: Path | None, settings: dict[str, Any]) -> int:
    from ..utils.atomic_files import write_json

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
    if stats is not None:
        content = {"source": session.address.shown, **settings, "error": session.error, **times}
        try:
            write_json(stats, content)
        except OSError as error:
            print(f"error: {stats} cannot be written: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0
