"""What a Space is built from agrees with the project."""

from __future__ import annotations

import tomllib

import yaml

from served_demo import REPOSITORY

DEMO = REPOSITORY / "spaces" / "demo"


def front_matter():
    _, head, _ = (DEMO / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head)


def test_the_front_matter_names_what_is_tested():
    head = front_matter()
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
    from dataclasses import fields

    from demo_limits import DemoLimits

    text = (REPOSITORY / "docs" / "demo.md").read_text(encoding="utf-8")
    for field in fields(DemoLimits):
        assert f"_{field.name.upper()}`" in text
        assert f"{field.default:g}" in text
