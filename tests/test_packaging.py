"""What pyproject.toml, constraints.txt and the imports between the folders promise each other."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from liver_landmark.utils.hub_configs import all_config_names

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "liver_landmark"
BENCHMARKS = ROOT / "benchmarks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = {
    "": [Requirement(line) for line in PROJECT["dependencies"]],
    **{
        extra: [Requirement(line) for line in lines]
        for extra, lines in PROJECT["optional-dependencies"].items()
    },
}
STANDARD_LIBRARY = set(sys.stdlib_module_names)


def pinned_versions() -> dict[str, Version]:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert canonicalize_name(name) not in pins, f"{name} is pinned twice"
            pins[canonicalize_name(name)] = Version(version)
    return pins


def imports_of(path: Path) -> set[str]:
    """Absolute dotted names of all that a file imports, function bodies included; `.x` stays `.x`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def test_the_extras_are_those_that_are_documented():
    assert set(REQUIREMENTS) == {"", "train", "compact", "demo", "sam2", "bench", "dev"}


@pytest.mark.parametrize("extra", ["", "train", "compact", "demo", "bench", "dev"])
def test_constraints_pin_every_direct_dependency_within_its_range(extra):
    pins = pinned_versions()
    for requirement in REQUIREMENTS[extra]:
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement.name} is missing in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement} excludes {pins[name]}"


@pytest.mark.parametrize("extra", ["", "train", "compact", "demo", "bench", "dev"])
def test_every_range_has_a_lower_bound(extra):
    for requirement in REQUIREMENTS[extra]:
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators & {">=", "=="}, f"{requirement} has no lower bound"


def test_torchvision_stays_out():
    assert "torchvision" not in pinned_versions()
    assert all(requirement.name != "torchvision" for group in REQUIREMENTS.values() for requirement in group)


def test_what_travels_to_the_hub_imports_little():
    allowed = {"torch", "numpy", "PIL", "transformers"} | STANDARD_LIBRARY
    for path in (PACKAGE / "model").glob("*_liver_landmark.py"):
        for name in imports_of(path):
            if name.startswith("."):
                sibling = PACKAGE / "model" / f"{name[1:]}.py"
                assert sibling.is_file(), f"{path.name} imports {name}: not a flat sibling"
            elif name != "scipy.optimize" or "curve" not in path.name:
                # The one exception, tried within a function: matching curves to the truth in training.
                assert name.split(".")[0] in allowed, f"{path.name} imports {name}"


def test_the_optimizer_imports_torch_only():
    for path in (PACKAGE / "optim").rglob("*.py"):
        for name in imports_of(path):
            assert name.startswith(".") or name.split(".")[0] in {"torch"} | STANDARD_LIBRARY, (
                f"{path.name} imports {name}"
            )
            assert not name.startswith(".."), f"{path.name} imports {name}: optim is useful without the rest"


MODULES = {  # where a distribution's module is not its name
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
}


def modules_of(*extras: str) -> set[str]:
    """The top-level modules that an installation with these extras may import."""
    names = {requirement.name for extra in extras for requirement in REQUIREMENTS[extra]}
    return {MODULES.get(name, name.replace("-", "_")) for name in names} | STANDARD_LIBRARY


def test_all_that_is_imported_is_declared():
    allowed = modules_of("", "train") | {"liver_landmark"}
    in_benchmarks = allowed | modules_of("bench") | {"shared", "peers"}  # they lie beside them
    for folder, names in ((PACKAGE, allowed), (ROOT / "scripts", allowed), (BENCHMARKS, in_benchmarks)):
        for path in folder.rglob("*.py"):
            for name in imports_of(path):
                assert name.startswith(".") or name.split(".")[0] in names, (
                    f"{path.relative_to(ROOT)} imports {name}, which pyproject.toml does not name"
                )


def test_prediction_needs_no_extra():
    folders = ("model", "curves", "inference", "streaming", "utils")
    files = [path for folder in folders for path in (PACKAGE / folder).rglob("*.py")]
    for path in [*files, PACKAGE / "__init__.py"]:
        depth = len(path.relative_to(PACKAGE).parts)
        for name in imports_of(path):
            module = name.lstrip(".")
            if not name.startswith("."):
                assert name.split(".")[0] in modules_of(""), f"{path.name} imports {name}"
            elif len(name) - len(module) == depth and module:
                # As many dots as folders: a path from the package's root.
                assert module.split(".")[0] in folders, f"{path.name} imports {name}, which needs an extra"


def test_the_commands_import_what_they_need_when_they_run():
    for path in (PACKAGE / "cli").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1, f"{path.name} imports {node.module} of another package at once"
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert {name.split(".")[0] for name in names} <= STANDARD_LIBRARY | {"typer"}, path.name


@pytest.mark.parametrize("folder", ["scripts", "benchmarks"])
def test_nothing_imports_the_scripts(folder: str):
    scripts = {path.stem for path in (ROOT / folder).glob("*.py")}
    for path in PACKAGE.rglob("*.py"):
        for name in imports_of(path):
            assert name.split(".")[0] not in scripts | {folder}, f"{path.name} imports {name}"
    # A script that is called as an installed package is would shadow it for `python scripts/x.py`.
    assert not scripts & (modules_of(*REQUIREMENTS) | {"tokenizers"})


def test_the_shell_scripts_parse():
    for path in [*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"]:
        subprocess.run(["bash", "-n", str(path)], check=True)
        assert "set -euo pipefail" in path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built in a copy so that nothing is left in it."""
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    copy.mkdir()
    for name in ("src", "hub_configs"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--no-index", "--wheel-dir", str(copy.parent), str(copy)], check=True)
    (path,) = copy.parent.glob("*.whl")
    return path


def test_the_wheel_is_whole(wheel):
    """Modules, pages, presets, recipes, launch configurations and cards; nothing else but its metadata."""
    expected = {
        path.relative_to(ROOT / "src").as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "liver_landmark/py.typed" in expected
    expected |= {
        f"liver_landmark/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "hub_configs").rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected


def test_the_wheel_finds_its_configurations(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "from liver_landmark.utils.hub_configs import all_config_names, dataset_card, recipe_file\n"
        "print(len(all_config_names()), recipe_file('finetune'), len(dataset_card('l3d')) > 500)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    recipe = tmp_path / "installed" / "liver_landmark" / "hub_configs" / "training" / "finetune.yaml"
    assert done.stdout.split() == [str(len(all_config_names())), str(recipe), "True"]
