"""A built set without this package: plain `datasets`, downloaded or streamed, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from liver_landmark.curves import get_protocol, rasterize_landmarks
from liver_landmark.data.dataset_folder import DatasetWriter, write_card
from liver_landmark.synthetic.dataset import encode_jpeg, encode_png
from tiny_datasets import HEIGHT, WIDTH, polylines, schema_row

CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test-*.parquet
$dataset_info
---
$frames frames
"""

SCRIPT = """
import json, sys
import datasets
folder = sys.argv[1]
found = {}
for streaming in (False, True):
    loaded = datasets.load_dataset(folder, streaming=streaming)
    rows = {split: list(loaded[split]) for split in loaded}
    row = rows["train"][1]
    names = loaded["train"].features["landmarks"].feature["category"].names
    found[str(streaming)] = {
        "frames": {split: len(part) for split, part in rows.items()},
        "ids": [row["frame_id"] for row in rows["train"]],
        "names": [names[landmark["category"]] for landmark in row["landmarks"]],
        "points": [landmark["points"] for landmark in row["landmarks"]],
        "size": row["image"].size,
        "label": [row["label"].mode, row["label"].tobytes().hex()],
        "nothing": [row["depth"], row["regions"], row["camera"]],
    }
ours = [name for name in sys.modules if name.split(".")[0] == "liver_landmark"]
print(json.dumps({"found": found, "ours": ours}))
"""


def test_a_built_set_needs_nothing_of_this_package(tmp_path: Path) -> None:
    folder, labels = tmp_path / "set", {}
    writer = DatasetWriter(folder, rows_per_shard=2)
    for split, count in (("train", 3), ("test", 1)):
        for index in range(count):
            name = f"{split}-{index}"
            row = schema_row(name, polylines(index), patient_id=split)
            labels[name] = rasterize_landmarks(polylines(index), WIDTH, HEIGHT, get_protocol("synthetic"))
            row |= {"image": encode_jpeg(np.asarray(row["image"]), name)}
            writer.add(split, row | {"label": encode_png(labels[name], name)})
    writer.close()
    write_card(folder, CARD, writer.summary())
    script = tmp_path / "elsewhere" / "load.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    environment = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        cwd=script.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["ours"] == []
    for found in answer["found"].values():
        assert found["frames"] == {"train": 3, "test": 1}
        assert found["ids"] == ["train-0", "train-1", "train-2"]
        assert found["names"] == ["ridge", "silhouette", "ligament"]
        expected = [np.float32(landmark["points"]).tolist() for landmark in polylines(1)]
        assert found["points"] == expected
        assert found["size"] == [WIDTH, HEIGHT]
        assert found["label"] == ["L", Image.fromarray(labels["train-1"]).tobytes().hex()]
        assert found["nothing"] == [None, None, None]
