"""A saved folder loads where this package is not: only the folder, torch, numpy, PIL and transformers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

from liver_landmark import LiverLandmarkImageProcessor
from tiny_models import tiny_model

CLEAN_PROCESS = """
import sys
sys.modules["liver_landmark"] = None  # importing the package is an error from here on
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation

folder = sys.argv[1]
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
frame = Image.new("RGB", (160, 90), (120, 60, 40))
pixel_values = processor(frame, return_tensors="pt")["pixel_values"]
for auto in (AutoModel, AutoModelForSemanticSegmentation):
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
with torch.no_grad():
    outputs = model(pixel_values)
assert processor.post_process_semantic_segmentation(outputs, target_sizes=[(90, 160)])[0].shape == (90, 160)
model.save_pretrained(sys.argv[2])  # what was loaded as remote code can be saved again
processor.save_pretrained(sys.argv[2])
torch.save(outputs.logits, sys.argv[3])
assert not [name for name in sys.modules if name == "liver_landmark" and sys.modules[name] is not None]
"""


def test_loads_in_a_process_without_the_package(tmp_path: Path) -> None:
    folder, again, logits_file = tmp_path / "model", tmp_path / "again", tmp_path / "logits.pt"
    model = tiny_model()
    processor = LiverLandmarkImageProcessor(size={"height": 128, "width": 128})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)

    def load(source: Path, target: Path) -> torch.Tensor:
        environment = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-c", CLEAN_PROCESS, str(source), str(target), str(logits_file)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return torch.load(logits_file, weights_only=True)

    frame = processor(Image.new("RGB", (160, 90), (120, 60, 40)), return_tensors="pt")["pixel_values"]
    expected = model(frame).logits
    torch.testing.assert_close(load(folder, again), expected)
    torch.testing.assert_close(load(again, tmp_path / "third"), expected)
