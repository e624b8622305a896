"""The launch configurations: accelerate reads them, and they say what their names say."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

FOLDER = Path(__file__).parents[2] / "hub_configs" / "accelerate"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_it(path: Path) -> None:
    # Unknown keys are errors there.
    config = load_config_from_file(str(path))
    assert config.mixed_precision == ("bf16" if "bf16" in path.stem else "no")
    assert config.use_cpu == ("cpu" in path.stem)
    assert (config.num_processes > 1) == ("multi" in path.stem)


def test_there_are_some() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} >= {
        "cpu",
        "one_gpu",
        "one_gpu_bf16",
        "multi_gpu_bf16",
    }
