"""The demo:  python spaces/demo/app.py

LIVER_LANDMARK_MODEL names the model, a folder or a Hub id; docs/demo.md has the other variables.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

# Read when Gradio and the Hub client are imported: no statistics go anywhere.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Gradio remembers calls, 10,000 by default, and sums them up after each: a few will do, and no sums.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "10")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
# OpenMP threads that wait actively collapse when anything else uses a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
DEFAULT_MODEL = "liver-landmark/tiny"
MODEL = os.environ.get("LIVER_LANDMARK_MODEL", DEFAULT_MODEL)
if Path(MODEL).is_dir():
    # All that is needed is here.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> int:
    """Serves the demo until it is interrupted; 2 and one line where it cannot start."""
    # What follows takes up to a minute on a small machine: imports and the model.
    print(f"loading model {MODEL} …", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="liver-landmark-demo-") as cache:
        # A folder of its own, gone with the server, also where others share the machine.
        os.environ["GRADIO_TEMP_DIR"] = cache
        # After the environment is as it has to be.
        from demo_blocks import serve
        from demo_engine import Engine
        from demo_limits import DemoLimits

        from liver_landmark.inference.predictor import ModelLoadError
        from liver_landmark.utils.memory import keep_memory_steady

        try:
            limits, engine = DemoLimits.from_environment(), Engine.from_pretrained(MODEL)
        except (ModelLoadError, ValueError) as error:
            print(f"error: {error}; LIVER_LANDMARK_MODEL names the model", file=sys.stderr)
            return 2
        keep_memory_steady()
        _end_cleanly()
        try:
            serve(engine, limits, Path(cache))
        except OSError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
    return 0


def _end_cleanly() -> None:
    """Ended by the system or with its terminal, as by Ctrl-C, it leaves nothing behind."""
    for name in ("SIGTERM", "SIGHUP"):
        # Windows has no SIGHUP, and nohup ignores it.
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda *_: sys.exit(0))


if __name__ == "__main__":
    sys.exit(main())
