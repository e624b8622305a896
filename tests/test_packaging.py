"""What pyproject.toml, constraints.txt and the imports between the folders promise each other."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

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
    assert set(REQUIREMENTS) == {"", "train", "demo", "sam2", "bench", "dev"}


@pytest.mark.parametrize("extra", ["", "train", "demo", "bench", "dev"])
def test_constraints_pin_every_direct_dependency_within_its_range(extra):
    pins = pinned_versions()
    for requirement in REQUIREMENTS[extra]:
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement.name} is missing in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement} excludes {pins[name]}"


@pytest.mark.parametrize("extra", ["", "train", "demo", "bench", "dev"])
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
            else:
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
    in_benchmarks = allowed | modules_of("bench") | {"shared"}  # benchmarks/shared.py lies beside them
    for folder, names in ((PACKAGE, allowed), (ROOT / "scripts", allowed), (BENCHMARKS, in_benchmarks)):
        for path in folder.rglob("*.py"):
            for name in imports_of(path):
                assert name.startswith(".") or name.split(".")[0] in names, (
                    f"{path.relative_to(ROOT)} imports {name}, which pyproject.toml does not name"
                )


def test_prediction_needs_no_extra():
    folders = ("model", "curves", "inference", "streaming", "utils")
    modules = (*("cli", "cli_options", "cli_predict", "cli_stream", "__init__"),)
    # The parser of commands that import their extra when they run.
    lazy = ("cli_data",)
    files = [path for folder in folders for path in (PACKAGE / folder).rglob("*.py")]
    for path in [*files, *(PACKAGE / f"{module}.py" for module in modules)]:
        depth = len(path.relative_to(PACKAGE).parts)
        for name in imports_of(path):
            module = name.lstrip(".")
            if not name.startswith("."):
                assert name.split(".")[0] in modules_of(""), f"{path.name} imports {name}"
            elif len(name) - len(module) == depth and module:
                # As many dots as folders: a path from the package's root.
                assert module.split(".")[0] in (*folders, *modules, *lazy), (
                    f"{path.name} imports {name}, which needs an extra"
                )


def test_the_data_commands_import_their_extra_when_they_run():
    tree = ast.parse((PACKAGE / "cli_data.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.module == "cli_options"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            assert {name.split(".")[0] for name in names} <= STANDARD_LIBRARY


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
