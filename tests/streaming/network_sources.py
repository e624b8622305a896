"""Cameras on the network, in a few lines each: RTSP with a password, and a stream over HTTP."""

from __future__ import annotations

import base64
import io
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np

from tiny_videos import OPTIONS

USER, PASSWORD = "surgeon", "pass%word"
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
)


def h264_packets(frames: Sequence[np.ndarray], rate: int) -> list[bytes]:
    """One Annex B packet a frame, a key frame every ten."""
    height, width = frames[0].shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.time_base = rate, Fraction(1, rate)
    encoder.options = OPTIONS["libx264"] | {"tune": "zerolatency", "g": "10"}
    packets = []
    for index, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts = index
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in packets + encoder.encode(None)]


def _units(packet: bytes) -> list[bytes]:
    """The NAL units of an Annex B packet."""
    return [unit.rstrip(b"\0") for unit in packet.split(b"\0\0\1") if unit.rstrip(b"\0")]


@contextmanager
def rtsp_camera(frames: Sequence[np.ndarray], rate: int = 25) -> Iterator[int]:
    """Sends frames at their rate to whoever knows the password, then hangs up; yields its port."""
    packets = h264_packets(frames, rate)
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while request := self.rfile.readline().decode().split():
                headers = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                if headers.get("authorization") != f"Basic {token}" and request[0] != "OPTIONS":
                    self.reply(headers, "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n')
                elif request[0] == "DESCRIBE":
                    self.reply(headers, "200 OK", "Content-Type: application/sdp\r\n", _SDP)
                elif request[0] == "SETUP":
                    assert "RTP/AVP/TCP" in headers["transport"]
                    transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
                    self.reply(headers, "200 OK", transport)
                else:
                    self.reply(headers, "200 OK", "Session: 1\r\n")
                if request[0] == "PLAY":
                    return self.play()

        def reply(self, headers: dict[str, str], status: str, extra: str = "", body: str = "") -> None:
            head = (
                f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
            )
            self.wfile.write((head + body).encode())

        def play(self) -> None:
            start, sequence = time.monotonic(), 0
            for index, packet in enumerate(packets):
                time.sleep(max(0.0, start + index / rate - time.monotonic()))
                units = _units(packet)
                for unit in units:
                    last = 0x80 if unit is units[-1] else 0
                    header = struct.pack(
                        ">BBHII", 0x80, 96 | last, sequence & 0xFFFF, index * 90000 // rate, 7
                    )
                    sequence += 1
                    self.wfile.write(struct.pack(">cBH", b"$", 0, 12 + len(unit)) + header + unit)

        def finish(self) -> None:
            # A client may hang up at any time.
            with suppress(OSError):
                super().finish()

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)) as port:
        yield port


def video_bytes(frames: Sequence[np.ndarray], container: str, codec: str, rate: int = 25) -> bytes:
    """A video in memory."""
    written = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov"} if container == "mp4" else {}
    with closing(av.open(written, "w", format=container, options=options)) as output:
        stream = output.add_stream(codec, rate=rate, options=OPTIONS.get(codec, {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return written.getvalue()


@contextmanager
def http_stream(
    content: bytes, content_type: str, seconds: float = 0.0, *, whole: bool = False, hang: bool = False
) -> Iterator[int]:
    """Sends content over so many seconds; yields its port.

    `whole` says how much it is, as for a file; `hang` keeps the connection open afterward, without a word.
    """
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            if whole:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            step = max(1, len(content) // 50)
            with suppress(OSError):
                for start in range(0, len(content), step):
                    self.wfile.write(content[start : start + step])
                    self.wfile.flush()
                    time.sleep(seconds / 50)
                if hang:
                    done.wait(30)

        def log_message(self, format, *arguments) -> None:
            pass

    try:
        with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
            yield port
    finally:
        done.set()


@contextmanager
def _serving(server: socketserver.ThreadingMixIn) -> Iterator[int]:
    server.daemon_threads = True
    server.block_on_close = False
    server.handle_error = lambda request, client: None
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def closed_port() -> int:
    """A port where nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]
