"""What importing the package costs, and that it registers the model however transformers is imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tiny_datasets import tiny_processor
from tiny_models import tiny_model


def in_new_process(code: str, *arguments: str | Path) -> str:
    """What the code prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model without its code, so that only a registered class can read it."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_processor(64).save_pretrained(folder)
    for file in folder.glob("*.py"):
        file.unlink()
    return folder


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


@pytest.mark.parametrize(
    "order",
    [
        "import liver_landmark",
        "from transformers import AutoModel; import liver_landmark",
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
    ],
)
def test_the_model_is_registered_in_whatever_order(order: str, model_folder: Path) -> None:
    in_new_process(order + "\n" + USE_ALL, model_folder)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("import liver_landmark", "from transformers import AutoConfig as A"),
        ("import liver_landmark", "from transformers import AutoImageProcessor as A"),
        ("from transformers import AutoModel as A", "import liver_landmark"),
        # The configuration's table is loaded before this package, the model's after it.
        (
            "from transformers import AutoConfig; import liver_landmark",
            "from transformers import AutoModel as A",
        ),
    ],
)
def test_one_auto_class_alone(first: str, second: str, model_folder: Path) -> None:
    code = f"{first}\n{second}\nimport sys; print(type(A.from_pretrained(sys.argv[1])).__module__)"
    assert in_new_process(code, model_folder).split()[-1].startswith("liver_landmark.model.")


def test_threads_that_import_at_once_all_find_the_model(model_folder: Path) -> None:
    in_new_process(
        """
        import sys, threading
        import liver_landmark
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
        + textwrap.indent(USE_ALL, "        "),
        model_folder,
    )


HEAVY = ("torch", "transformers", "cv2", "kornia", "datasets", "scipy", "skimage", "pandas", "matplotlib")


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("liver_landmark", ()),
        ("liver_landmark.optim", ("torch",)),
        ("liver_landmark.training.recipe", ()),
    ],
)
def test_nothing_heavy_is_imported(module: str, allowed: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert set(in_new_process(code).split()) <= set(allowed)


@pytest.mark.parametrize(
    "wrong", ["--optimizer.proj_type=qr", "--data.protocol=qr", "--augmentation.smoke=3", "--bogus=1"]
)
def test_a_wrong_field_is_refused_without_anything_heavy(wrong: str) -> None:
    arguments = ["--model.architecture=x", "--data.path=x", "--output_dir=x", "--budget.steps=1", wrong]
    code = f"""
        import sys
        from liver_landmark.training.recipe import parse_recipe
        try:
            parse_recipe({arguments!r})
        except ValueError as error:
            assert {wrong.split("=")[0].strip("-").split(".")[-1]!r} in str(error), error
        else:
            raise AssertionError
        print(*[name for name in {HEAVY!r} if name in sys.modules])
    """
    assert in_new_process(code).split() == []


def test_optim_is_whole_on_first_use() -> None:
    code = """
        import sys
        from liver_landmark.optim import SRFTGaLoreAdamW, compute_basis, galore_param_groups
        assert "torch" in sys.modules and "transformers" not in sys.modules
    """
    in_new_process(code)


def test_every_exported_name_is_there_and_listed() -> None:
    in_new_process("""
        import importlib
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
                raise AssertionError
    """)


def test_waiting_threads_are_turned_off_before_torch_is_loaded() -> None:
    code = """
        import os, sys
        os.environ.pop("OMP_WAIT_POLICY", None)
        import liver_landmark
        assert "torch" not in sys.modules
        print(os.environ["OMP_WAIT_POLICY"])
    """
    assert in_new_process(code).strip() == "PASSIVE"


def test_importing_costs_little_beside_transformers() -> None:
    """CPU time of fresh processes: the bound asked for is 1.15, and it is far below."""

    def seconds(code: str) -> float:
        text = f"import time; start = time.process_time()\n{code}\nprint(time.process_time() - start)"
        return float(in_new_process(text).split()[-1])

    theirs = seconds("from transformers import AutoModel, PreTrainedModel")
    assert min(seconds("import liver_landmark") for _ in range(2)) <= 1.15 * theirs / 4
