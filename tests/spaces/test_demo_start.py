"""How the demo starts: with ZeroGPU or without, with a model or with one line; what a Space is built from."""

from __future__ import annotations

import dataclasses
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from contextvars import ContextVar
from types import ModuleType, SimpleNamespace

import demo_engine
import httpx
import pytest
import yaml
from demo_limits import DemoLimits
from gradio_client import Client, handle_file
from PIL import Image

from colored_frames import colored_frame
from served_demo import REPOSITORY
from tiny_datasets import save_model

DEMO = REPOSITORY / "spaces" / "demo"


def double(value):
    return 2 * value


@pytest.mark.parametrize("installed", [False, True])
def test_functions_run_in_the_packages_decorator_where_it_is(monkeypatch, installed):
    package = ModuleType("spaces")
    package.GPU = lambda function: lambda *arguments: ("on the GPU", function(*arguments))
    monkeypatch.setitem(sys.modules, "spaces", package)
    found = "found" if installed else None
    monkeypatch.setattr(demo_engine.importlib.util, "find_spec", lambda name: found)
    assert demo_engine.gpu(double)(4) == (("on the GPU", 8) if installed else 8)


def test_our_own_folder_is_not_taken_for_the_package(monkeypatch, repository):
    # As `python -m` or PYTHONPATH do in the root of a checkout.
    monkeypatch.syspath_prepend(str(repository))
    monkeypatch.delitem(sys.modules, "spaces", raising=False)
    assert demo_engine.importlib.util.find_spec("spaces") is not None
    assert demo_engine.gpu(double) is double
    monkeypatch.delitem(sys.modules, "spaces", raising=False)


def test_on_zerogpu_the_package_comes_before_the_model_is_moved(engine, monkeypatch, tmp_path):
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "__init__.py").write_text("GPU, MOVED = (lambda function: function), []")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "spaces", raising=False)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    # Without the package, torch has no device of that name to give.
    plain = engine._predictor(False)
    model = SimpleNamespace(
        to=lambda device: sys.modules["spaces"].MOVED.append(device), config=plain.model.config
    )
    found = SimpleNamespace(**vars(plain) | {"model": model, "device": plain.device})
    monkeypatch.setattr(demo_engine.LandmarkPredictor, "from_pretrained", lambda name: found)
    demo_engine.Engine.from_pretrained("model")
    assert sys.modules["spaces"].MOVED == ["cuda"]
    monkeypatch.delitem(sys.modules, "spaces")


def test_the_model_runs_in_one_thread_whoever_asks(engine, monkeypatch):
    threads, contexts = [], []
    user = ContextVar("user")
    for name in ("prepare", "forward", "finish"):
        plain = getattr(engine._plain, name)

        def watched(*arguments, plain=plain):
            threads.append(threading.current_thread())
            contexts.append(user.get())
            return plain(*arguments)

        monkeypatch.setattr(engine._plain, name, watched)

    def ask(number):
        user.set(number)
        return engine.predict(colored_frame(("ridge",)), False)

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(20)
    assert len(threads) == 9
    [only] = set(threads)
    assert only not in askers
    # On ZeroGPU the context says whose time it is.
    assert sorted(contexts) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def answers(address):
    try:
        return httpx.get(address, timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow  # a process of its own, with all imports anew
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_the_app_answers_and_leaves_nothing_behind_when_it_is_ended(repository, tmp_path, end):
    model, temporary = tmp_path / "model", tmp_path / "tmp"
    temporary.mkdir()
    save_model(model)
    settings = {"LIVER_LANDMARK_MODEL": str(model), "TMPDIR": str(temporary)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings["GRADIO_SERVER_PORT"] = str(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, str(repository / "spaces" / "demo" / "app.py")], env=os.environ | settings
    )
    try:
        address = f"http://127.0.0.1:{settings['GRADIO_SERVER_PORT']}"
        while not answers(address):
            assert process.poll() is None
            time.sleep(0.2)
        client = Client(address, download_files=str(tmp_path / "downloads"), verbose=False)
        frame = tmp_path / "frame.png"
        Image.fromarray(colored_frame(("ridge",))).save(frame)
        view = [["ridge"], 0.4, ["areas"], "none"]
        found = client.predict(handle_file(str(frame)), False, *view, api_name="/find_landmarks")[3]
        assert len(found) == 3
        assert len(list(temporary.glob("liver-landmark-demo-*/*/*.webp"))) == 1
    finally:
        process.send_signal(end)
    assert process.wait(20) == 0
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("LIVER_LANDMARK_MODEL", "/nowhere/model", "/nowhere/model"),
        ("LIVER_LANDMARK_DEMO_MAX_WAITING", "many", "LIVER_LANDMARK_DEMO_MAX_WAITING is 'many'"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_one_line(
    repository, monkeypatch, capsys, variable, value, expected
):
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1" if name == "HF_HUB_OFFLINE" else "False")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(repository / "spaces" / "demo" / "app.py"), run_name="__main__")
    assert stopped.value.code == 2
    # What takes long is said before it begins, so that a slow start is not a mute one.
    loading, line = capsys.readouterr().err.strip().splitlines()
    assert loading.startswith("loading model ")
    assert line.startswith("error: ")
    assert expected in line


def test_the_front_matter_names_what_is_tested():
    head = yaml.safe_load((DEMO / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1])
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"{head['sdk']}=={head['sdk_version']}" in pins
    assert (DEMO / head["app_file"]).is_file()
    assert head["license"] == "apache-2.0"
    # A version that is read as a number loses its zero.
    assert isinstance(head["python_version"], str)
    assert len(head["short_description"]) <= 60


def test_the_requirements_install_this_version_with_the_demo():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (DEMO / "requirements.txt").read_text(encoding="utf-8").splitlines()
    [wheel] = [line for line in lines if not line.startswith("#")]
    assert wheel == f"./liver_landmark-{project['version']}-py3-none-any.whl[demo]"
    assert "demo" in project["optional-dependencies"]


def test_every_variable_is_documented():
    text = (REPOSITORY / "docs" / "demo.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(DemoLimits):
        assert f"_{field.name.upper()}`" in text
        assert f"{field.default:g}" in text
