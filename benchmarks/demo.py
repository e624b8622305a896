"""The demo under many clients at once: right answers, refusals, memory, and what is left of the uploads.

    python benchmarks/demo.py --model outputs/quickstart/best --output outputs/benchmark_demo

Starts spaces/demo/app.py on this machine and lets each client, for a while, upload its own frame and ask for
its landmarks, over plain HTTP as any program does, as one page each. What is right was computed beforehand
without the demo. Writes benchmark_demo.json.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from liver_landmark.inference import LandmarkPredictor
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.utils.atomic_files import write_json
from shared import new_parser, positive_int, process_mib

APP = Path(__file__).resolve().parents[1] / "spaces" / "demo" / "app.py"
VIEW: list[Any] = [list(DEFAULT_LANDMARKS.names), 0.4, ["areas"], "none"]
# A client that was refused, or is done, looks at its screen for so long.
PAUSE_S = 0.5
KEEP_MINUTES = 0.5
# Between two looks at the demo's memory.
SAMPLE_S = 5.0


@dataclass
class Outcomes:
    """What the clients got.

    Attributes:
        counts: right, wrong, refused (the queue's message), failed (anything else).
        seconds: Of each right answer, from the upload's start.
        messages: Of the refusals and failures.
    """

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, seconds: float, message: str = "") -> None:
        """Counts one request."""
        with self.lock:
            self.counts[kind] += 1
            if kind == "right":
                self.seconds.append(seconds)
            if message:
                self.messages[message] += 1


class Demo:
    """The demo as a process of its own."""

    def __init__(self, model: str, folder: Path, max_waiting: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.folder = f"http://127.0.0.1:{port}", folder
        settings = {
            "LIVER_LANDMARK_MODEL": model,
            "LIVER_LANDMARK_DEMO_KEEP_MINUTES": str(KEEP_MINUTES),
            "LIVER_LANDMARK_DEMO_MAX_WAITING": str(max_waiting),
            "GRADIO_SERVER_PORT": str(port),
            "TMPDIR": str(folder),
        }
        self.log = (folder / "demo.log").open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, str(APP)], env=os.environ | settings, stdout=self.log, stderr=self.log
        )

    def wait(self, seconds: float = 120) -> None:
        """Until it answers; a RuntimeError if it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"the demo did not start: see {self.folder / 'demo.log'}")

    def resident_mib(self) -> float:
        """Its memory in MiB."""
        mib = process_mib(self.process.pid, "VmRSS")
        if mib is None:
            raise RuntimeError(f"the demo ended: see {self.folder / 'demo.log'}")
        return mib

    def files(self) -> list[Path]:
        """The files of its cache folder."""
        return [path for path in self.folder.glob("liver-landmark-demo-*/**/*") if path.is_file()]

    def close(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


def make_frame(number: int, width: int, height: int) -> bytes:
    """A client's PNG: smooth tissue colors and edges, different for each number."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(40, 220, (9, 16, 3), dtype=np.uint8))
    picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
    buffer = BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def expected_findings(predictor: LandmarkPredictor, picture: bytes) -> list[dict[str, Any]]:
    """What the demo has to say of a frame, from the predictor alone."""
    [prediction] = predictor.predict(np.asarray(Image.open(BytesIO(picture))))
    lengths = {name: 0.0 for name in DEFAULT_LANDMARKS.names}
    for curve in prediction.curves():
        lengths[curve.category] += curve.length_px
    return [
        {
            "landmark": name,
            "present": name in prediction.present,
            "presence": prediction.presence[name],
            "confidence": prediction.scores[name],
            "length_px": lengths[name],
        }
        for name in DEFAULT_LANDMARKS.names
    ]


def is_right(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Whether an answer is that of the client's own frame, to the digits that the demo gives."""
    return len(found) == len(expected) and all(
        one["landmark"] == other["landmark"]
        and one["present"] == other["present"]
        and abs(one["presence"] - other["presence"]) < 2e-3
        and abs(one["confidence"] - other["confidence"]) < 2e-3
        # Another number of threads adds up otherwise: a pixel at an edge may go to the other side.
        and abs(one["length_px"] - other["length_px"]) <= 0.2 + 0.01 * other["length_px"]
        for one, other in zip(found, expected, strict=True)
    )


def post(url: str, body: bytes, content_type: str) -> Any:
    """The JSON that a POST is answered with."""
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def ask(url: str, picture: bytes, name: str) -> list[dict[str, Any]]:
    """Uploads a frame and waits for what was found; a RuntimeError with the demo's message if nothing was."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    form = head.encode() + picture + f"\r\n--{boundary}--\r\n".encode()
    [path] = post(f"{url}/gradio_api/upload", form, f"multipart/form-data; boundary={boundary}")
    upload = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
    call = f"{url}/gradio_api/call/find_landmarks"
    body = json.dumps({"data": [upload, False, *VIEW], "session_hash": name})
    started = post(call, body.encode(), "application/json")
    event = ""
    with urllib.request.urlopen(f"{call}/{started['event_id']}", timeout=120) as lines:
        for line in lines:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                event = text.removeprefix("event: ")
            elif text.startswith("data: ") and event in ("complete", "error"):
                data = json.loads(text.removeprefix("data: "))
                if event == "error":
                    raise RuntimeError(str(data))
                return data[3]
    raise RuntimeError("the answer broke off")


def run_client(
    demo: Demo, number: int, picture: bytes, expected: list[dict[str, Any]], end: float, outcomes: Outcomes
) -> None:
    """One client until the end."""
    while time.monotonic() < end:
        start = time.monotonic()
        try:
            found = ask(demo.url, picture, f"frame{number}.png")
            outcomes.add("right" if is_right(found, expected) else "wrong", time.monotonic() - start)
        except urllib.error.HTTPError as error:
            message = error.read().decode(errors="replace")[:200]
            outcomes.add(
                "refused" if error.code == 503 and "ueue is full" in message else "failed", 0, message
            )
        except (OSError, RuntimeError) as error:
            outcomes.add("failed", 0, str(error)[:200])
        time.sleep(PAUSE_S)


def run_clients(demo: Demo, pictures: list[bytes], expected: list[Any], seconds: float) -> Outcomes:
    """All clients at once for so long; each finishes what it has begun."""
    outcomes, end = Outcomes(), time.monotonic() + seconds
    threads = [
        threading.Thread(target=run_client, args=(demo, number, picture, answer, end, outcomes))
        for number, (picture, answer) in enumerate(zip(pictures, expected, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@contextmanager
def sampled_memory(demo: Demo) -> Iterator[list[float]]:
    """The demo's memory in MiB from time to time, while the block runs."""
    samples, done = [demo.resident_mib()], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            samples.append(demo.resident_mib())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def rise_per_minute(samples_mib: list[float]) -> float:
    """How fast memory rises in the second half of the samples: slope of their line in MiB a minute."""
    half = samples_mib[len(samples_mib) // 2 :]
    if len(half) < 2:
        return 0.0
    return float(np.polyfit(np.arange(len(half)) * SAMPLE_S / 60, half, 1)[0])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    pictures = [make_frame(number, *options.size) for number in range(options.clients)]
    predictor = LandmarkPredictor.from_pretrained(options.model)
    expected = [expected_findings(predictor, picture) for picture in pictures]
    cache = options.output / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    demo = Demo(options.model, cache.resolve(), options.max_waiting)
    try:
        demo.wait()
        memory = {"started": demo.resident_mib()}
        warm = run_clients(demo, pictures, expected, options.warm_up)
        memory["warmed_up"] = demo.resident_mib()
        with sampled_memory(demo) as samples:
            outcomes = run_clients(demo, pictures, expected, options.seconds)
        memory["end"] = demo.resident_mib()
        left_at_once = len([path for path in demo.files() if path.name.startswith("frame")])
        # A file is kept for so long, and goes with the next sweep.
        time.sleep(KEEP_MINUTES * 60 * 1.2 + 5)
        left_later = len(demo.files())
        memory["after_the_sweep"] = demo.resident_mib()
    finally:
        demo.close()
    return {
        "clients": options.clients,
        "seconds": options.seconds,
        "frame": list(options.size),
        "max_waiting": options.max_waiting,
        "warm_up": dict(warm.counts),
        **{kind: outcomes.counts[kind] for kind in ("right", "wrong", "refused", "failed")},
        "messages": dict(outcomes.messages.most_common(5)),
        "seconds_median": round(float(np.median(outcomes.seconds)), 3) if outcomes.seconds else None,
        "seconds_95": round(float(np.percentile(outcomes.seconds, 95)), 3) if outcomes.seconds else None,
        "memory_mib_every_5_s": [round(value, 1) for value in samples],
        "memory_rise_mib_per_minute_in_the_second_half": round(rise_per_minute(samples), 1),
        "memory_mib": {moment: round(value, 1) for moment, value in memory.items()},
        "uploads_left_at_once": left_at_once,
        "files_left_after_the_sweep": left_later,
    }


def parse_size(text: str) -> tuple[int, int]:
    """Width and height in px from `960x540`."""
    width, height = (int(part) for part in text.split("x"))
    return width, height


def main() -> int:
    """Measures, prints and writes; 1 where an answer was wrong, a request failed, or an upload was left."""
    parser = new_parser(__doc__)
    parser.add_argument("--model", required=True, help="folder or Hub id")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of benchmark_demo.json and demo.log"
    )
    parser.add_argument("--clients", type=positive_int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=60, help="seconds before memory is compared")
    parser.add_argument("--max-waiting", type=positive_int, default=20, help="length of the demo's queue")
    parser.add_argument("--size", type=parse_size, default=(960, 540), help="of the frames, WIDTHxHEIGHT")
    options = parser.parse_args()
    result = measure(options)
    write_json(options.output / "benchmark_demo.json", result)
    print(json.dumps(result, indent=2))
    faults = ("wrong", "failed", "uploads_left_at_once", "files_left_after_the_sweep")
    return 1 if any(result[fault] for fault in faults) else 0


if __name__ == "__main__":
    sys.exit(main())
