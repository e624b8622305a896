"""What importing the package costs, and that it registers the model however transformers is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_datasets import tiny_processor
from tiny_models import tiny_model


def in_new_process(code: str, *arguments: str | Path) -> str:
    """What the code prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


USE_ALL = """
import sys
from PIL import Image
from transformers import (
    AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation, pipeline,
)
folder = sys.argv[1]
config = AutoConfig.for_model("liver_landmark")
for auto in (AutoModel, AutoModelForSemanticSegmentation):
    assert type(auto.from_pretrained(folder)).__name__ == "LiverLandmarkForSemanticSegmentation"
assert type(AutoImageProcessor.from_pretrained(folder)).__name__ == "LiverLandmarkImageProcessor"
found = pipeline("liver-landmark-segmentation", model=folder)(Image.new("RGB", (80, 60)))
assert found, found
hooks = [finder for finder in sys.meta_path if type(finder).__module__.startswith("liver_landmark")]
assert not hooks, hooks
"""
# One Auto class, and nothing else of transformers asked for before.
USE_ONE = """
import sys
assert type(A.from_pretrained(sys.argv[1])).__module__.startswith("liver_landmark.model.")
"""
IN_THREADS = """
import threading, liver_landmark
failures = []

def load(module, name):
    try:
        barrier.wait()
        __import__(module, fromlist=[name])
    except BaseException as error:
        failures.append(repr(error))

work = [
    ("transformers", "AutoModel"),
    ("transformers", "pipeline"),
    ("transformers.modeling_layers", "GradientCheckpointingLayer"),
    ("liver_landmark.model.modeling_liver_landmark", "LiverLandmarkPreTrainedModel"),
    ("liver_landmark", "LiverLandmarkImageProcessor"),
]
barrier = threading.Barrier(len(work))
threads = [threading.Thread(target=load, args=job) for job in work]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
"""
ORDERS = [
    (order, USE_ALL)
    for order in (
        "import transformers; import liver_landmark; transformers.AutoModel",
        "import liver_landmark; from transformers import AutoModel",
        "import liver_landmark; from transformers import pipeline",
        # The modules that this package itself needs are half-loaded when the Auto classes are ready.
        "import liver_landmark; from transformers.modeling_layers import GradientCheckpointingLayer",
        "import liver_landmark.model.branches_liver_landmark",
        "import liver_landmark.model.pipeline_liver_landmark",
        "import liver_landmark; liver_landmark.LiverLandmarkForSemanticSegmentation",
        "import importlib, liver_landmark; importlib.reload(liver_landmark)",
        "from transformers import pipeline; import importlib, liver_landmark as l; importlib.reload(l)",
    )
]
ORDERS += [
    (order, USE_ONE)
    for order in (
        "import liver_landmark; from transformers import AutoConfig as A",
        "import liver_landmark; from transformers import AutoImageProcessor as A",
        "from transformers import AutoModel as A; import liver_landmark",
        # The configuration's table is loaded before this package, the model's after it.
        "from transformers import AutoConfig; import liver_landmark; from transformers import AutoModel as A",
    )
]
# Each order in a fork of one interpreter that has loaded what transformers needs, which takes longest, and
# nothing of transformers or of this package.
IN_FORKS = """
import json, os, sys, traceback
import accelerate, huggingface_hub.hf_api, scipy.optimize, sympy, tokenizers, torch._dynamo
import torch.distributed.checkpoint
errors = []
for order, use in json.loads(sys.argv[2]):
    assert not {name.split(".")[0] for name in sys.modules} & {"transformers", "liver_landmark"}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            exec(order + "\\n" + use, {"__name__": "__main__"})
        except BaseException:
            os.write(writing, traceback.format_exc()[-3000:].encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as said:
        errors.append(said.read())
    assert os.waitpid(child, 0)[1] == 0 or errors[-1], order
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model without its code, so that only a registered class can read it."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_processor(64).save_pretrained(folder)
    for file in folder.glob("*.py"):
        file.unlink()
    return folder


def test_the_model_is_registered_in_whatever_order(model_folder: Path) -> None:
    errors = json.loads(in_new_process(IN_FORKS, model_folder, json.dumps(ORDERS)).splitlines()[-1])
    assert {order: error for (order, _), error in zip(ORDERS, errors, strict=True) if error} == {}


def test_threads_that_import_at_once_all_find_the_model(model_folder: Path) -> None:
    """In a fresh interpreter: where torch is loaded already, such threads fail in transformers itself."""
    in_new_process(IN_THREADS + USE_ALL, model_folder)


HEAVY = ("torch", "transformers", "cv2", "kornia", "datasets", "scipy", "skimage", "pandas", "matplotlib")
# Of fresh interpreters, which say how long the import took; the first one is one more order.
TRANSFORMERS_FIRST = """
import time; start = time.process_time()
from transformers import AutoModel, PreTrainedModel
print(time.process_time() - start)
import liver_landmark
"""
PACKAGE_ALONE = f"""
import importlib, os, sys, time
os.environ.pop("OMP_WAIT_POLICY", None)
def heavy(): return [name for name in {HEAVY} if name in sys.modules]

start = time.process_time()
import liver_landmark
seconds = time.process_time() - start
assert not heavy(), heavy()
# Waiting threads are turned off before torch is loaded.
assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"

# A wrong field is refused without anything heavy.
from liver_landmark.training.recipe import parse_recipe
needed = ["--model.architecture=x", "--data.path=x", "--output_dir=x", "--budget.steps=1"]
for wrong, named in (
    ("--optimizer.proj_type=qr", "proj_type"), ("--data.protocol=qr", "protocol"),
    ("--augmentation.smoke=3", "smoke"), ("--bogus=1", "bogus"),
):
    try:
        parse_recipe([*needed, wrong])
    except ValueError as error:
        assert named in str(error), error
    else:
        raise AssertionError(wrong)
assert not heavy(), heavy()

from liver_landmark.optim import SRFTGaLoreAdamW, compute_basis, galore_param_groups
assert heavy() == ["torch"], heavy()

# Every exported name is there and listed.
for name in ("", ".curves", ".data", ".evaluation", ".inference", ".model", ".optim", ".streaming"):
    package = importlib.import_module("liver_landmark" + name)
    assert set(package.__all__) <= set(dir(package))
    for exported in package.__all__:
        assert getattr(package, exported) is not None, exported
    try:
        package.no_such_name
    except AttributeError as error:
        assert "no_such_name" in str(error)
    else:
        raise AssertionError(name)
print(seconds)
"""


def test_importing_costs_little_beside_transformers_and_loads_nothing_heavy(model_folder: Path) -> None:
    """CPU time of fresh processes: the bound asked for is 1.15, and it is far below."""
    theirs = float(in_new_process(TRANSFORMERS_FIRST + USE_ALL, model_folder).split()[0])
    assert float(in_new_process(PACKAGE_ALONE).split()[-1]) <= 1.15 * theirs / 4
