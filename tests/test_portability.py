"""What the source may not do, so that it runs on Windows and macOS too, on which nothing is tested."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDERS = ("src", "spaces", "scripts", "benchmarks")
POSIX_MODULES = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty"}
POSIX_FUNCTIONS = {
    "fork",
    "mkfifo",
    "mknod",
    "getuid",
    "geteuid",
    "getgid",
    "chown",
    "killpg",
    "setsid",
    "sysconf",
}
# Windows has these signals, and no others.
SIGNALS = {"SIGINT", "SIGTERM", "SIGABRT", "SIGBREAK"}
SYSTEM_FOLDERS = ("/proc", "/dev", "/sys", "/etc", "/tmp", "/var")
# V4L2's names of cameras, which Linux users type; figures of memory, which are measured on Linux alone.
MAY_NAME_FOLDERS = {"src/liver_landmark/streaming/capture.py", "benchmarks/shared.py"}


# A fork server is asked for where there is one: get_all_start_methods says so.
_CONTEXTS = {f"multiprocessing.get_context('{method}')" for method in ("spawn", "forkserver")}


def source_files(repository: Path) -> list[Path]:
    files = [file for folder in FOLDERS for file in sorted((repository / folder).rglob("*.py"))]
    return [file for file in files if "build" not in file.relative_to(repository).parts]


def faults(code: str, name: str = "") -> Iterator[str]:
    """What would not run everywhere, as `line: what`."""
    tree = ast.parse(code)
    guarded = {id(node) for branch in _guarded_branches(tree) for node in ast.walk(branch)}
    for node in ast.walk(tree):
        if id(node) not in guarded:
            for fault in _faults_of(node, name):
                yield f"{node.lineno}: {fault}"


def _guarded_branches(tree: ast.AST) -> Iterator[ast.AST]:
    """What an `if` over the system's name, or over whether something is there, decides on."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.IfExp)):
            test = ast.unparse(node.test)
            if any(
                word in test for word in ("os.name", "sys.platform", "hasattr", "_IS_WINDOWS", "is_file()")
            ):
                yield from (
                    (node.body, node.orelse) if isinstance(node, ast.IfExp) else [*node.body, *node.orelse]
                )


def _faults_of(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        modules = (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        )
        yield from (f"import of {module}" for module in modules if module.split(".")[0] in POSIX_MODULES)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id == "os" and node.attr in POSIX_FUNCTIONS:
            yield f"os.{node.attr}"
        if (
            node.value.id == "signal"
            and node.attr.startswith("SIG")
            and node.attr not in SIGNALS | {"SIG_DFL", "SIG_IGN"}
        ):
            yield f"signal.{node.attr}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        for folder in SYSTEM_FOLDERS:
            if (node.value + "/").startswith(f"{folder}/") and name not in MAY_NAME_FOLDERS:
                yield f"names {folder}"
    elif isinstance(node, ast.Call):
        yield from _faults_of_call(node)


def _faults_of_call(node: ast.Call) -> Iterator[str]:
    function = ast.unparse(node.func)
    called = function.rsplit(".", 1)[-1]
    options = {keyword.arg for keyword in node.keywords}
    if called in ("read_text", "write_text"):
        # The project's own `write_text(path, text)` is a plain function that writes UTF-8.
        if "." in function and "encoding" not in options:
            yield f"{called} without an encoding"
    elif (
        called in ("open", "fdopen", "NamedTemporaryFile")
        and _is_text(node, function)
        and "encoding" not in options
    ):
        yield f"{function} of a text without an encoding"
    elif called in ("run", "Popen", "check_output") and function.startswith("subprocess."):
        if options & {"text", "universal_newlines"} and "encoding" not in options:
            yield f"{function} of a text without an encoding"
    elif called in ("rename", "renames") and function.startswith("os."):
        yield f"{function}: Windows does not rename over a file"
    elif function in {f"multiprocessing.{name}" for name in ("Process", "Pool", "Queue", "set_start_method")}:
        yield f"{function} without a context"
    elif called == "get_context" and ast.unparse(node) not in _CONTEXTS:
        yield "a context that is not spawn"


def _is_text(node: ast.Call, function: str) -> bool:
    """Whether a call opens a text file: `open(…)` or `path.open(…)` of a mode without b."""
    if function.endswith(
        ("Image.open", "av.open", "wave.open", "os.open", "webbrowser.open", "zipfile.open")
    ):
        return False
    modes = [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
    # The mode is the first argument of a method and the second of a function.
    place = 1 if function in ("open", "io.open", "os.fdopen") else 0
    modes += node.args[place : place + 1]
    if not modes:
        return not function.endswith("NamedTemporaryFile")
    return isinstance(modes[0], ast.Constant) and "b" not in str(modes[0].value)


def test_the_source_runs_on_every_system(repository: Path) -> None:
    found = []
    for file in source_files(repository):
        name = file.relative_to(repository).as_posix()
        found += [f"{name}:{fault}" for fault in faults(file.read_text(encoding="utf-8"), name)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import fcntl",
        "from resource import getrusage",
        "os.fork()",
        "os.kill(pid, signal.SIGKILL)",
        "Path('/proc/self/status')",
        "path.read_text()",
        "path.write_text(text)",
        "path.open()",
        "path.open('w')",
        "open(path, 'a')",
        "open(path, mode='w')",
        "subprocess.run(command, text=True)",
        "os.rename(a, b)",
        "multiprocessing.Pool(2)",
        "multiprocessing.get_context('fork')",
    ],
)
def test_what_is_looked_for_is_found(code: str) -> None:
    assert len(list(faults(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "path.open('rb')",
        "open(path, 'w', encoding='utf-8')",
        "Image.open(path)",
        "write_text(path, text)",
        "subprocess.run(command)",
        "if hasattr(os, 'fork'): os.fork()",
        "signal.SIGTERM",
        "multiprocessing.get_context('spawn').Pool(2)",
    ],
)
def test_what_runs_everywhere_is_let_pass(code: str) -> None:
    assert list(faults(code)) == []
