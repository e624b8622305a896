"""The page of a live session, over HTTP: to this machine's own browser, and to nobody else unless asked.

    GET  /                                     the page; /page.css, /page.js
    GET  /frame?after=N&state=S&alpha=A&landmarks=ridge,ligament
                                               waits for a result newer than frame N: a JPEG; 204 where there
                                               is none in time, or the session's state is not S any more
    POST /shown?frame=N                        the page shows frame N
    POST /pause?paused=1                       holds the newest result, or goes on (0)
    GET  /times                                the summary as JSON

`/frame` has, as JSON in the header `Live-Status`, the session's status, the landmarks, and for how many
seconds the result has been there (`lain_s`). No request leads to a file: the page's own are read once, at the
start. Names other than this machine's are refused (`Host`), so that no website can make its own name point
here and read along, and so are requests that other sites cause.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
import threading
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from ..inference.overlay import draw_overlay
from .session import LiveSession, Result, landmarks_of


@dataclass(frozen=True)
class Look:
    """How a page wants its picture drawn.

    Attributes:
        alpha: Share of the landmarks' color, 0 to 1.
        landmarks: Names of those to draw; None: all of the model.
    """

    alpha: float = 0.4
    landmarks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha}")


@dataclass(frozen=True)
class PictureOptions:
    """What is the same for all pages.

    Attributes:
        max_width: Wider frames are reduced to it before they are drawn, px; the model sees them whole.
        quality: Of the JPEG, 1 to 100.
        alpha: Share of the landmarks' color that pages start with, 0 to 1.
    """

    max_width: int = 1280
    quality: int = 85
    alpha: float = 0.4

    def __post_init__(self) -> None:
        if self.max_width < 16:
            raise ValueError(f"max_width must be at least 16 px, got {self.max_width}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must lie between 1 and 100, got {self.quality}")
        Look(self.alpha)


class PictureMaker:
    """Draws results on request, once for all pages that want the same."""

    def __init__(self, options: PictureOptions | None = None) -> None:
        """None takes the defaults."""
        self.options = options or PictureOptions()
        self._lock = threading.Lock()
        self._last: tuple[int, Look, bytes] | None = None

    def jpeg(self, result: Result, look: Look) -> bytes:
        """The result's picture; the last one is kept. A ValueError names a landmark that there is not."""
        names = result.prediction.landmarks.names
        wanted = names if look.landmarks is None else look.landmarks
        if unknown := [name for name in wanted if name not in names]:
            raise ValueError(f"landmarks are {', '.join(names)}; unknown: {unknown[0]!r}")
        look = replace(look, landmarks=tuple(name for name in names if name in wanted))
        with self._lock:
            if self._last is None or self._last[:2] != (result.number, look):
                self._last = (result.number, look, self._encode(result, look))
            return self._last[2]

    def _encode(self, result: Result, look: Look) -> bytes:
        pixels, mask = result.pixels, result.prediction.mask
        height, width = mask.shape
        if width > self.options.max_width:
            size = (self.options.max_width, max(1, round(height * self.options.max_width / width)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        drawn = draw_overlay(
            pixels,
            mask,
            alpha=look.alpha,
            legend=False,
            landmarks=look.landmarks,
            table=result.prediction.landmarks,
        )
        bgr = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.options.quality])
        return np.asarray(jpeg).tobytes()


# Seconds: an answer without news, and a connection without a request.
_LONG_POLL_S, _IDLE_S = 1.0, 30.0
_CONNECTIONS = 32
_CONTENT_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_loopback(host: str) -> bool:
    """Whether a server at this address is reached from its own machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LiveServer(ThreadingHTTPServer):
    """Serves one session's page until `close`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = _CONNECTIONS

    def __init__(
        self,
        session: LiveSession,
        host: str = "127.0.0.1",
        port: int = 8765,
        options: PictureOptions | None = None,
    ) -> None:
        """Listens on `host`:`port`; port 0 takes a free one.

        Raises:
            OSError: the address is not this machine's, or the port is taken.
        """
        self.session, self.pictures = session, PictureMaker(options)
        page = files(__package__) / "page"
        self.assets = {
            "/" if name == "index.html" else f"/{name}": (
                f"{_CONTENT_TYPES[name.rsplit('.')[-1]]}; charset=utf-8",
                (page / name).read_bytes(),
            )
            for name in ("index.html", "page.css", "page.js")
        }
        # Any literal address is let in: a website can only make names point here.
        self.names = {"localhost", host.lower(), socket.gethostname().lower()}
        self._started = self.closed = False
        self._slots = threading.BoundedSemaphore(_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self.server_address[1]}/"

    def start(self) -> None:
        """Answers requests, in threads of its own."""
        self._started = True
        threading.Thread(target=self.serve_forever, args=(0.1,), name="live-server", daemon=True).start()

    def close(self) -> None:
        """Stops answering; pages that are under way are not waited for."""
        self.closed = True
        if self._started:
            self.shutdown()
        self.server_close()

    def server_bind(self) -> None:
        """Binds without asking a name server who this is, as the base class does."""
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, up to a number."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that went away is no error; anything else is printed by the base class."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """A request that gets no more than a status and a line."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    # An answer is written at once, header and body.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: LiveServer

    def do_GET(self) -> None:
        self._answer({"/frame": self._frame, "/times": self._times})

    def do_POST(self) -> None:
        self._answer({"/shown": self._shown, "/pause": self._pause})

    def _answer(self, routes: dict[str, Any]) -> None:
        if self.server.closed:  # a connection that was kept from before
            self.close_connection = True
            return
        try:
            url = urlsplit(self.path)
            self._check_sender(url.path)
            if self.command == "GET" and url.path in self.server.assets:
                content_type, content = self.server.assets[url.path]
                self._send(HTTPStatus.OK, content, content_type)
            elif url.path in routes:
                routes[url.path](parse_qs(url.query, keep_blank_values=True, max_num_fields=16))
            else:
                raise _Refused(HTTPStatus.NOT_FOUND, "no such page")
        except ValueError as error:
            self._send(HTTPStatus.BAD_REQUEST, str(error).encode())
        except _Refused as refusal:
            self._send(refusal.status, str(refusal).encode())

    def _check_sender(self, path: str) -> None:
        # What a body would hold, nobody reads: the connection could not be used for another request.
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "requests have no body here")
        host = self.headers.get("Host", "")
        if not self._is_ours(host):
            raise _Refused(
                HTTPStatus.FORBIDDEN,
                "this name is not the page's: use the address that was printed, or this machine's in numbers",
            )
        origin = self.headers.get("Origin")
        from_elsewhere = self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        # A link on another page may lead to this one.
        link = path == "/" and self.headers.get("Sec-Fetch-Mode") == "navigate"
        if (origin is not None and origin.lower() != f"http://{host.lower()}") or (
            from_elsewhere and not link
        ):
            raise _Refused(HTTPStatus.FORBIDDEN, "requests of other sites are refused")

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.server.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _frame(self, query: dict[str, list[str]]) -> None:
        names = query.get("landmarks")
        start = self.server.pictures.options.alpha
        look = Look(
            float(_value(query, "alpha", str(start))),
            None if names is None else tuple(name for name in names[0].split(",") if name),
        )
        after, state = int(_value(query, "after", "0")), int(_value(query, "state", "-1"))
        session = self.server.session
        result = session.wait_newer(after, state, _LONG_POLL_S)
        status = {**session.status(), "alpha": start}
        if result is None:
            self._send(HTTPStatus.NO_CONTENT, b"", status=status)
            return
        picture = self.server.pictures.jpeg(result, look)
        session.times.sent(result.number)
        lain_s = round(session.times.clock() - result.ready_s, 3)
        status = {"frame": result.number, "lain_s": lain_s, **landmarks_of(result.prediction), **status}
        self._send(HTTPStatus.OK, picture, "image/jpeg", status)

    def _times(self, query: dict[str, list[str]]) -> None:
        self._send(
            HTTPStatus.OK, json.dumps(self.server.session.times.summary()).encode(), "application/json"
        )

    def _shown(self, query: dict[str, list[str]]) -> None:
        self.server.session.times.shown(int(_value(query, "frame", "0")))
        self._send(HTTPStatus.NO_CONTENT, b"")

    def _pause(self, query: dict[str, list[str]]) -> None:
        self.server.session.pause(_value(query, "paused", "1") == "1")
        self._send(HTTPStatus.NO_CONTENT, b"")

    def _send(
        self,
        code: HTTPStatus,
        content: bytes,
        content_type: str = "text/plain; charset=utf-8",
        status: dict[str, Any] | None = None,
    ) -> None:
        self.send_response(code)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if status is not None:
            self.send_header("Live-Status", json.dumps(status))
        if code != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def version_string(self) -> str:
        return "liver-landmark"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: requests are no news, and the terminal is the command's."""


def _value(query: dict[str, list[str]], name: str, default: str) -> str:
    return query.get(name, [default])[0]
