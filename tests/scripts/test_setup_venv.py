"""scripts/setup_venv.sh with a stand-in for Python, so that nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Behaves as `python` as far as the script asks: its version, `-m venv`, `-m pip`. Logs the latter two.
FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
--version) echo "Python 3.10.4" ;;
-c*) [[ "${FAKE_TOO_OLD:-}" != yes ]] ;;
"-m venv --clear "*)
    echo "venv" >>"$FAKE_LOG"
    rm -rf "$4"
    mkdir -p "$4/bin"
    cp "$FAKE_PYTHON" "$4/bin/python"
    echo "VIRTUAL_ENV='$4'" >"$4/bin/activate"
    ;;
"-m pip install"*)
    sleep "${FAKE_SECONDS:-0}"
    echo "pip ${*: -1}" >>"$FAKE_LOG"
    [[ "${FAKE_PIP_FAILS:-}" != yes ]]
    ;;
*) exit 99 ;;
esac
"""


class Checkout:
    """A folder with the script, and nothing but stand-ins to run it with."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.root = folder / "check out"  # a space, as folders of users have
        (self.root / "scripts").mkdir(parents=True)
        self.script = self.root / "scripts" / "setup_venv.sh"
        shutil.copy(repository / "scripts" / "setup_venv.sh", self.script)
        (self.root / "pyproject.toml").write_text("[project]\n")
        (self.root / "constraints.txt").write_text("numpy==2.4.6\n")
        tools = folder / "tools"
        tools.mkdir()
        for name in ("python3.11", "python3", "python", "python3.12", "python3.13", "python3.14"):
            (tools / name).write_text(FAKE_PYTHON)
            (tools / name).chmod(0o755)
        self.log = folder / "log"
        self.log.touch()
        self.environment = os.environ | {
            "PATH": f"{tools}:/usr/bin:/bin",
            "FAKE_LOG": str(self.log),
            "FAKE_PYTHON": str(tools / "python3"),
        }

    def start(self, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.script)],
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **variables: str) -> tuple[int, str]:
        """(exit status, stderr)."""
        process = self.start(**variables)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def steps(self) -> list[str]:
        """What has been done since the last call."""
        done = self.log.read_text().splitlines()
        self.log.write_text("")
        return done


INSTALL = "pip .[train,demo,dev]"


@pytest.fixture
def checkout(tmp_path, repository) -> Checkout:
    return Checkout(tmp_path, repository)


def assert_does(checkout, *steps):
    status, errors = checkout.run()
    assert (status, checkout.steps()) == (0, list(steps)), errors
    # What does nothing says nothing.
    assert steps or errors == ""


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_only_a_changed_requirement_is_installed_into_what_is_there(checkout, name):
    assert_does(checkout, "venv", INSTALL)
    assert_does(checkout)
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    assert_does(checkout, INSTALL)
    assert_does(checkout)


def test_a_failed_installation_is_made_from_the_start_the_next_time(checkout):
    status, errors = checkout.run(FAKE_PIP_FAILS="yes")
    assert status != 0
    assert "setup_venv.sh: installing into .venv failed" in errors
    assert checkout.steps() == ["venv", INSTALL]
    assert_does(checkout, "venv", INSTALL)


def test_a_moved_checkout_is_set_up_from_the_start(checkout):
    # The commands of an environment name its folder in their first line.
    assert_does(checkout, "venv", INSTALL)
    checkout.root = checkout.root.rename(checkout.root.with_name("elsewhere"))
    checkout.script = checkout.root / "scripts" / "setup_venv.sh"
    assert_does(checkout, "venv", INSTALL)


def test_an_old_python_is_named_in_one_line(checkout):
    status, errors = checkout.run(FAKE_TOO_OLD="yes")
    assert status != 0
    assert errors == "setup_venv.sh: Python 3.11 or newer is needed, found Python 3.10.4 on PATH\n"
    assert checkout.steps() == []
    assert not (checkout.root / ".venv").exists()


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_two_at_once_install_once(checkout):
    both = [checkout.start(FAKE_SECONDS="0.5") for _ in range(2)]
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert checkout.steps() == ["venv", INSTALL]


def test_sourced_it_puts_the_environment_first_on_path(checkout):
    script = f'source "{checkout.script}"; command -v python; echo "$OMP_WAIT_POLICY"'
    environment = {key: value for key, value in checkout.environment.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(checkout.root / ".venv" / "bin" / "python"), "PASSIVE"]
