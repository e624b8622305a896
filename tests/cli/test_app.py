"""All commands together: how they end, how they help, and that neither takes long."""

from __future__ import annotations

import errno
import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

import liver_landmark
from liver_landmark.cli import main

LOAD = "data.loading.load_landmark_dataset"
SCORED = "--model m --dataset d --output out"
# Command -> the rest of a line that is right as far as can be told without a look at any file, and what is
# done first then.
COMMANDS = {
    "predict": ("x.png --model m --output out", "inference.frame_sources.collect_inputs"),
    "stream": ("0 --model m", "streaming.parse_source"),
    "train": (
        "--config finetune --model.init m --data.path d --output_dir out",
        "training.training_run.prepare_run",
    ),
    "evaluate": (SCORED, LOAD),
    "calibrate": (f"{SCORED} --report-only", LOAD),
    "data show": ("d", LOAD),
    "data check": ("d", "data.check.SetCheck.problems"),
    "data stats": ("d", LOAD),
    "data export": ("d --format svg --output out", LOAD),
    "data build synthetic": ("--domain a --output out", "data.build.build_synthetic"),
    "data build l3d": ("raw --output out", "data.build.build_raw_set"),
    "data build p2ilf": ("raw --output out", "data.build.build_raw_set"),
    "data build llsd": ("raw --output out", "data.build.build_raw_set"),
    "data build custom": ("raw --format cvat --output out", "data.build.build_raw_set"),
    "config path": ("accelerate/cpu", "utils.hub_configs.config_path"),
}


def run_failing(monkeypatch: pytest.MonkeyPatch, command: str, error: BaseException) -> int:
    """The exit code of a command whose first step fails like that."""
    rest, first = COMMANDS[command]
    for step in (first, "inference.load_model_and_processor"):
        monkeypatch.setattr(f"liver_landmark.{step}", Mock(side_effect=error))
    return main([*command.split(), *rest.split()])


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


ENDS = [
    (ValueError("what is wrong\n with it"), 2),
    (FileNotFoundError(errno.ENOENT, "No such file", "d"), 2),
    (OSError(errno.ENOSPC, "No space left on device", "out"), 1),
    (KeyboardInterrupt(), 130),
]


@pytest.mark.parametrize(
    ("command", "error", "code"),
    [
        pytest.param(command, error, code, id=f"{command}-{type(error).__name__}")
        for command in COMMANDS
        for error, code in ENDS
        # Sources of a stream say what is wrong with them by errors of their own.
        if not (command == "stream" and isinstance(error, OSError))
    ],
)
def test_the_table_of_exit_codes(command, error, code, monkeypatch, capsys, empty_folder):
    assert run_failing(monkeypatch, command, error) == code
    out, err = capsys.readouterr()
    assert out == ""
    label = "interrupted" if code == 130 else "error: "
    assert err.splitlines()[-1].startswith(f"liver-landmark {command}: {label}")
    assert sum(not line.endswith(" …") for line in err.splitlines()) == 1
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bug_is_a_traceback(command, monkeypatch):
    with pytest.raises(RuntimeError, match="a bug"):
        run_failing(monkeypatch, command, RuntimeError("a bug"))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_one_line(command, error_line, empty_folder):
    assert main([*command.split(), *COMMANDS[command][0].split(), "--bogus", "1"]) == 2
    assert "bogus" in error_line(command)
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("", "liver-landmark: error: Missing command."),
        ("fly", "liver-landmark: error: No such command 'fly'."),
        ("data shw", "liver-landmark data: error: No such command 'shw'. Did you mean 'show'?"),
        ("predict --model m --output o", "liver-landmark predict: error: Missing argument 'INPUT'."),
        ("data build custom r --output o", "Missing option '--format'. Choose from: labelme, cvat"),
    ],
)
def test_what_is_missing_is_one_line(arguments, line, capsys):
    assert main(arguments.split()) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said


@pytest.mark.parametrize("name", ["", "data", "data build", "config", *COMMANDS])
def test_help(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main([*name.split(), "--help"]) == 0
    out, err = capsys.readouterr()
    assert " ".join(out.split()).lower().startswith(f"usage: liver-landmark {name}".rstrip())
    assert err == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"liver-landmark {liver_landmark.__version__}\n"


def test_configurations_have_names_and_paths(capsys, repository):
    assert main(["config", "list"]) == 0
    names = capsys.readouterr().out.split()
    assert {"models/synthetic-tiny", "training/finetune", "accelerate/cpu", "datasets/l3d"} <= set(names)
    for name in names:
        assert main(["config", "path", name]) == 0
        assert Path(capsys.readouterr().out.strip()).is_relative_to(repository / "hub_configs")


LIGHT = """
import os, sys, time
from liver_landmark.cli import main

sys.stdout = open(os.devnull, "w")
# Last comes train, whose options are the recipe's fields: these need numpy, and nothing that is heavier.
for name in sorted(sys.argv[1:], key="train".__eq__):
    assert main([*name.split(), "--help"]) == 0, name
    assert main([*name.split(), "--bogus"]) == 2, name
    heavy = {"torch", "transformers", "datasets", "cv2", "numpy"} & set(sys.modules)
    assert heavy <= ({"numpy"} if name == "train" else set()), (name, heavy)
assert main([]) == 2
assert time.process_time() < 3, time.process_time()
"""


def test_help_and_wrong_options_import_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LIGHT, *COMMANDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "liver_landmark", "predict", "--bogus"],
        capture_output=True,
        text=True,
        env=os.environ | {"RANK": "1"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "liver-landmark predict [process 1]: error: No such option: --bogus\n"


@pytest.mark.parametrize(
    "name", ["train=train", "evaluate_model=evaluate", "build_dataset=data build", "calibrate=calibrate"]
)
def test_the_scripts_are_the_subcommands(repository, monkeypatch, error_line, name):
    script, command = name.split("=")
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--bogus", "1"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(repository / "scripts" / f"{script}.py"), run_name="__main__")
    assert caught.value.code == 2
    assert "bogus" in error_line(command)


def test_shells_complete_options_and_values(monkeypatch, capsys):
    monkeypatch.setenv("_LIVER_LANDMARK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "liver-landmark data build custom --format ")
    monkeypatch.setenv("COMP_CWORD", "5")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.split() == ["labelme", "cvat"]
