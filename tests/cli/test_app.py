"""All commands together: how they end, how they help, and that neither takes long."""

from __future__ import annotations

import errno
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import liver_landmark
from liver_landmark.cli import main

MODEL = ("--model", "m")
SCORED = (*MODEL, "--dataset", "d", "--output", "out")
# A command line that is right as far as can be told without a look at any file -> what it does first then.
COMMANDS = {
    ("predict", "x.png", *MODEL, "--output", "out"): "liver_landmark.inference.frame_sources.collect_inputs",
    ("stream", "0", *MODEL): "liver_landmark.streaming.parse_source",
    (
        *("train", "--config", "finetune", "--model.init", "m", "--data.path", "d", "--output_dir", "out"),
    ): "liver_landmark.training.training_run.prepare_run",
    ("evaluate", *SCORED): "liver_landmark.data.loading.load_landmark_dataset",
    ("calibrate", *SCORED, "--report-only"): "liver_landmark.data.loading.load_landmark_dataset",
    ("data show", "d"): "liver_landmark.data.loading.load_landmark_dataset",
    ("data check", "d"): "liver_landmark.data.check.SetCheck.problems",
    ("data stats", "d"): "liver_landmark.data.loading.load_landmark_dataset",
    (
        *("data export", "d", "--format", "svg", "--output", "out"),
    ): "liver_landmark.data.loading.load_landmark_dataset",
    (
        *("data build synthetic", "--domain", "a", "--output", "out"),
    ): "liver_landmark.data.build.build_synthetic",
    ("data build l3d", "raw", "--output", "out"): "liver_landmark.data.build.build_raw_set",
    ("data build p2ilf", "raw", "--output", "out"): "liver_landmark.data.build.build_raw_set",
    ("data build llsd", "raw", "--output", "out"): "liver_landmark.data.build.build_raw_set",
    (
        *("data build custom", "raw", "--format", "cvat", "--output", "out"),
    ): "liver_landmark.data.build.build_raw_set",
    ("config path", "accelerate/cpu"): "liver_landmark.utils.hub_configs.config_path",
}
NAMES = [command[0] for command in COMMANDS]


def words(command: tuple[str, ...]) -> list[str]:
    return [*command[0].split(), *command[1:]]


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
        pytest.param(command, error, code, id=f"{command[0]}-{type(error).__name__}")
        for command in COMMANDS
        for error, code in ENDS
        # Sources of a stream say what is wrong with them by errors of their own.
        if not (command[0] == "stream" and isinstance(error, OSError))
    ],
)
def test_the_table_of_exit_codes(command, error, code, monkeypatch, capsys, empty_folder):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(COMMANDS[command], fail)
    monkeypatch.setattr("liver_landmark.inference.load_model_and_processor", fail)
    assert main(words(command)) == code
    out, err = capsys.readouterr()
    assert out == ""
    label = "interrupted" if code == 130 else "error: "
    assert err.splitlines()[-1].startswith(f"liver-landmark {command[0]}: {label}")
    assert sum(not line.endswith(" …") for line in err.splitlines()) == 1
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_a_bug_is_a_traceback(command, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(COMMANDS[command], fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(words(command))


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_an_unknown_option_is_one_line(command, error_line, empty_folder):
    assert main([*words(command), "--bogus", "1"]) == 2
    assert "bogus" in error_line(command[0])
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "liver-landmark: error: Missing command."),
        (["fly"], "liver-landmark: error: No such command 'fly'."),
        (["data", "shw"], "liver-landmark data: error: No such command 'shw'. Did you mean 'show'?"),
        (["predict", *MODEL, "--output", "o"], "liver-landmark predict: error: Missing argument 'INPUT'."),
        (
            ["data", "build", "custom", "r", "--output", "o"],
            "Missing option '--format'. Choose from: labelme, cvat",
        ),
    ],
)
def test_what_is_missing_is_one_line(arguments, line, capsys):
    assert main(arguments) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said


@pytest.mark.parametrize("name", ["", "data", "data build", "config", *NAMES])
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
import os, sys, time, types

# The package's own __init__ is not what is measured.
package = types.ModuleType("liver_landmark")
package.__path__ = [sys.argv[1]]
sys.modules["liver_landmark"] = package

from liver_landmark.cli import main

sys.stdout = sys.stderr = open(os.devnull, "w")
commands = [line.split() for line in sys.argv[2:]]
for command in commands:
    assert main([*command, "--help"]) == 0, command
    assert main([*command, "--bogus"]) == 2, command
assert main([]) == 2
heavy = {"torch", "transformers", "datasets", "cv2", "numpy"} & set(sys.modules)
assert not heavy, heavy
assert time.process_time() < 3, time.process_time()
"""


def test_help_and_wrong_options_import_nothing_heavy(repository):
    # `train` has its options from the recipe.
    names = [name for name in NAMES if name != "train"]
    package = str(Path(liver_landmark.__file__).parent)
    done = subprocess.run([sys.executable, "-c", LIGHT, package, *names], capture_output=True, text=True)
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
    ("script", "command"),
    [
        ("train", "train"),
        ("evaluate_model", "evaluate"),
        ("build_dataset", "data build"),
        ("calibrate", "calibrate"),
    ],
)
def test_the_scripts_are_the_subcommands(repository, monkeypatch, error_line, script, command):
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
