"""The two steps of the quick start that no other command does.

    python scripts/quickstart_steps.py frame DATASET OUTPUT_DIR
    python scripts/quickstart_steps.py summary QUICKSTART_DIR

`frame` takes a frame that shows all landmarks out of the test split, as a picture file. `summary`
gathers the training's and the evaluations' results into summary.json, and prints them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS
from liver_landmark.utils.atomic_files import atomic_path, write_json

DOMAINS = ("a", "b")


def export_frame(dataset: Path, output: Path) -> Path:
    """Writes the first test frame that shows all landmarks, its bytes as they are stored."""
    # Imported here so that the summary does not wait for it.
    import datasets

    from liver_landmark.data.loading import load_landmark_dataset

    rows = load_landmark_dataset(dataset, "test").select_columns(["image", "landmarks", "frame_id"])
    rows = rows.cast_column("image", datasets.Image(decode=False))
    if len(rows) == 0:
        raise ValueError(f"{dataset}: the test split holds no frames")
    row = max(rows, key=lambda row: len({landmark["category"] for landmark in row["landmarks"]}))
    data = row["image"]["bytes"]
    suffix = ".jpg" if data.startswith(b"\xff\xd8") else ".png"
    output.mkdir(parents=True, exist_ok=True)
    path = output / (re.sub(r"[^\w.-]+", "_", row["frame_id"]) + suffix)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


def summarize(folder: Path) -> dict[str, Any]:
    """The content of summary.json: seconds of training, and the test splits' scores by domain.

    DSC and IoU lie between 0 and 1, a class's DSC is the mean over the frames that show it, distances are
    px of the protocol's frame (1024²).
    """
    summary: dict[str, Any] = {"train_seconds": _read_json(folder / "run.json")["train_seconds"]}
    for domain in DOMAINS:
        metrics = _read_json(folder / "evaluation" / domain / "metrics.json")
        summary[f"domain_{domain}"] = {
            **{name: metrics[name] for name in ("dsc", "iou", "assd_px")},
            "per_class": {
                name: {"dsc": metrics["per_class"][name]["dsc"]} for name in DEFAULT_LANDMARKS.names
            },
        }
    return summary


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def format_summary(summary: dict[str, Any], folder: Path) -> str:
    """The summary as a table, and where everything lies."""
    lines = [f"{'test split':12}" + "".join(f"{title:>12}" for title in ("DSC", "IoU", "ASSD px"))]
    lines[0] += "".join(f"{name + ' DSC':>16}" for name in DEFAULT_LANDMARKS.names)
    for domain in DOMAINS:
        scores = summary[f"domain_{domain}"]
        cells = [f"{_number(scores['dsc'], 3):>12}{_number(scores['iou'], 3):>12}"]
        cells.append(f"{_number(scores['assd_px'], 1):>12}")
        cells += [f"{_number(scores['per_class'][name]['dsc'], 3):>16}" for name in DEFAULT_LANDMARKS.names]
        lines.append(f"domain {domain:5}" + "".join(cells))
    places = {
        "model and processor": "best/",
        "synthetic data": "data/a/  data/b/",
        "overlays": "overlays/*_overlay.png",
        "evaluations": "evaluation/a/  evaluation/b/",
        "training curves": "metrics.jsonl",
        "these numbers": "summary.json",
    }
    lines += ["", f"trained in {summary['train_seconds']:.0f} s; in {folder}:"]
    lines += [f"  {what:21}{where}" for what, where in places.items()]
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def main(argv: list[str] | None = None) -> int:
    """Runs one step; what is wrong comes out as one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    frame = steps.add_parser("frame", help="a test frame as a picture file; prints its path")
    frame.add_argument("dataset", type=Path)
    frame.add_argument("output", type=Path)
    summary = steps.add_parser("summary", help="summary.json and a table")
    summary.add_argument("folder", type=Path)
    arguments = parser.parse_args(argv)
    try:
        if arguments.step == "frame":
            print(export_frame(arguments.dataset, arguments.output))
        else:
            content = summarize(arguments.folder)
            write_json(arguments.folder / "summary.json", content)
            print(format_summary(content, arguments.folder))
    except (ValueError, OSError) as error:
        print(f"quickstart_steps.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
