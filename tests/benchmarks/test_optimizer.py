"""scripts/benchmark_optimizer.py: what its figures are made of, and a run over a handful of matrices."""

from __future__ import annotations

import importlib
import json
import math
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

MODULES = ("command", "matrices", "peers", "refresh", "steps", "targets", "timing")


@pytest.fixture(scope="module")
def parts(repository: Path) -> Iterator[SimpleNamespace]:
    """The script's modules by name, imported as they are when it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "scripts"))
        yield SimpleNamespace(
            **{name: importlib.import_module(f"optimizer_benchmark.{name}") for name in MODULES}
        )


def exact_energy(size: int, rank: int, exponent: float) -> float:
    values = [index ** (-2 * exponent) for index in range(1, size + 1)]
    return sum(values[:rank]) / sum(values)


@pytest.mark.parametrize("shape", [(40, 16), (16, 40), (24, 24)])
def test_synthetic_matrices_have_the_spectrum_they_are_named_by(parts, shape):
    matrix = parts.matrices.synthetic_matrix(shape, 0.5, seed=3)
    assert matrix.shape == shape
    expected = torch.arange(1, min(shape) + 1) ** -0.5
    torch.testing.assert_close(torch.linalg.svdvals(matrix), expected, rtol=1e-4, atol=1e-5)


def test_a_former_gradient_differs_as_said_and_keeps_the_spectrum(parts):
    matrix = parts.matrices.synthetic_matrix((96, 48), 0.5)
    near = parts.matrices.drifted(matrix, 0.1, seed=1)
    assert float((near - matrix).norm() / matrix.norm()) == pytest.approx(0.1, abs=0.01)
    far = parts.matrices.drifted(matrix, 1.0, seed=1)
    torch.testing.assert_close(torch.linalg.svdvals(far), torch.linalg.svdvals(matrix), rtol=1e-4, atol=1e-5)
    # Unrelated: the leading subspace of one holds no more of the other's than a random one, k / m.
    leading = torch.linalg.svd(matrix).U[:, :8]
    overlap = float((leading.T @ torch.linalg.svd(far).U[:, :8]).square().sum()) / 8
    assert overlap < 0.35


def test_a_warm_start_finds_the_basis_of_a_gradient_that_moved(parts):
    """The chain of former refreshes, against one that is written out."""
    from liver_landmark.optim import compute_basis

    method = parts.refresh.refresh_methods(1, {})["srft_warm_10_fifth"]
    gradient = parts.matrices.synthetic_matrix((64, 32), 0.5)
    past = [gradient]
    for step in range(5):
        past.append(parts.matrices.drifted(past[-1], 0.1, seed=7000 + step))
    basis = compute_basis(past[5], 6, seed=7)
    for former in (past[4], past[3], past[2], past[1]):
        basis = compute_basis(former, 6, seed=7, start=basis)
    torch.testing.assert_close(parts.refresh.former_basis(method, gradient, 6, 7), basis)
    assert parts.refresh.former_basis(parts.refresh.refresh_methods(1, {})["srft"], gradient, 6, 7) is None


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (24, 24)])
def test_energy_is_the_leading_singular_values_share(parts, shape):
    gradient = parts.matrices.synthetic_matrix(shape, 1.0)
    expected = exact_energy(24, 5, 1.0)
    left, _, right = torch.linalg.svd(gradient)
    sides = [left[:, :5], right[:5].T]
    longer, shorter = sides if shape[0] >= shape[1] else sides[::-1]
    energy = parts.refresh.captured_energy
    assert energy(gradient, longer, "longer") == pytest.approx(expected, rel=1e-5)
    assert energy(gradient, shorter, "shorter") == pytest.approx(expected, rel=1e-5)
    if shape[0] != shape[1]:
        assert energy(gradient, shorter.T, "shorter") == pytest.approx(expected, rel=1e-5)
    assert parts.refresh.best_energy(gradient, 5) == pytest.approx(expected, rel=1e-5)
    svd = parts.refresh.refresh_methods(1, {})["svd"]
    (ratio,) = parts.refresh.relative_energies({"svd": svd}, [gradient], 5)["svd"]
    assert ratio == pytest.approx(1, abs=1e-5)


def test_the_published_way_by_an_explicit_fourier_matrix(parts):
    """Its first k columns span the real and imaginary parts of the first k / 2 bins of the complex basis."""
    gradient = parts.matrices.synthetic_matrix((30, 20), 0.5)
    basis = parts.refresh.published_basis(gradient, 6, seed=5)
    torch.testing.assert_close(basis.T @ basis, torch.eye(6), atol=1e-5, rtol=0)
    generator = torch.Generator().manual_seed(5)
    signs = torch.randint(0, 2, (20,), generator=generator) * 2.0 - 1
    bins = torch.randperm(20, generator=generator)[:6]
    angles = -2 * math.pi * torch.outer(torch.arange(20.0), bins.double()) / 20
    sketch = (gradient * signs).to(torch.complex128) @ torch.polar(torch.ones_like(angles), angles)
    # Gram-Schmidt by hand on the first three of them.
    columns: list[torch.Tensor] = []
    for column in sketch.T[:3]:
        for former in columns:
            column = column - former * torch.vdot(former, column)
        columns.append(column / column.norm())
    # QR leaves each column's phase open, which mixes its real and imaginary part but not their span.
    span = torch.cat([torch.stack([column.real, column.imag], 1) for column in columns], dim=1)
    outside = span - basis.double() @ (basis.double().T @ span)
    assert float(outside.norm() / span.norm()) < 1e-4
    assert parts.refresh.published_basis(gradient.T, 6, seed=5).shape == (30, 6)


def test_rounds_take_every_measurement_in_turn(parts):
    calls = []

    def measurement(name: str):
        def measure(turn: int) -> float:
            calls.append((turn, name))
            return 10.0 * turn + len(name)

        return measure

    results = parts.timing.interleave({"a": measurement("a"), "bb": measurement("bb")}, 3)
    assert calls == [(turn, name) for turn in range(3) for name in ("a", "bb")]
    assert results == {"a": [1, 11, 21], "bb": [2, 12, 22]}
    # Of the rounds' ratios 2, 3 and 1; the medians' ratio would be 1.2.
    assert parts.timing.median_ratio([2, 30, 12], [1, 10, 12]) == 2


@pytest.mark.parametrize("stacked", [False, True])
def test_a_refresh_takes_the_whole_list(parts, stacked):
    seen = []

    def compute(gradient, rank, seed, start):
        seen.append((tuple(gradient.shape), seed, None if start is None else tuple(start.shape)))
        return torch.eye(gradient.shape[-2], rank)

    shapes = [(8, 4), (6, 6), (8, 4)]
    matrices = {shape: torch.ones(shape) for shape in shapes}
    method = parts.refresh.Refresh("counted", compute, batched=True, drift=1.0)
    times = parts.refresh.measure_refresh({"counted": method}, matrices, shapes, 2, 1, stacked)
    assert len(times["counted"]) == 1
    assert times["counted"][0] > 0
    # Before the timed ones: two former bases, and a warm-up of each shape.
    if stacked:
        assert [call[0] for call in seen[4:]] == [(2, 8, 4), (6, 6)]
        assert seen[4][2] == (2, 8, 2)
    else:
        assert [call[0] for call in seen[4:]] == shapes
        assert len({call[1] for call in seen[4:]}) == 3
        assert seen[4][2] == (8, 2)


def test_stacked_refreshes_are_those_of_single_matrices(parts):
    gradients = torch.stack([parts.matrices.synthetic_matrix((12, 20), 0.5, seed) for seed in range(3)])
    # Of the best possible; a basis that knows nothing of its matrix captures 0.3 of it.
    floors = {"srft_energy": 0.6, "gaussian": 0.6, "svd": 0.9999, "srft_power_2": 0.95}
    for name, floor in floors.items():
        method = parts.refresh.refresh_methods(2, {})[name]
        bases = method.compute(gradients, 4, 5, None)
        assert bases.shape == (3, 20, 4)
        for gradient, basis in zip(gradients, bases, strict=True):
            torch.testing.assert_close(basis.T @ basis, torch.eye(4), atol=1e-5, rtol=0)
            energy = parts.refresh.captured_energy(gradient, basis, "longer")
            assert energy / parts.refresh.best_energy(gradient, 4) > floor
    first, second = parts.refresh.refresh_methods(1, {})["srft"].compute(
        gradients[:1].repeat(2, 1, 1), 4, 5, None
    )
    assert not torch.allclose(first @ first.T, second @ second.T, atol=0.1), "matrices shared their draws"


class Projector:
    """State as GaLore keeps it: an object that holds a view of a whole factor."""

    def __init__(self, view: torch.Tensor) -> None:
        self.ortho_matrix = view
        self.itself = self
        self.rank = 3


def test_state_is_charged_with_what_its_views_keep_alive(parts):
    parameter = torch.nn.Parameter(torch.ones(10, 4))
    parameter.grad = torch.ones(10, 4)
    adamw = torch.optim.AdamW([parameter])
    adamw.step()
    assert parts.steps.state_bytes(adamw) == 2 * 10 * 4 * 4 + 4
    factor = torch.zeros(100, 100)
    state = {"projector": Projector(factor[:3]), "again": [factor[5:], {"deep": torch.zeros(7)}], "step": 1}
    optimizer = SimpleNamespace(state={parameter: state})
    assert parts.steps.state_bytes(optimizer) == 100 * 100 * 4 + 7 * 4


def test_own_state_in_closed_form(parts):
    """k · (long + 2 · short) numbers a matrix with a stored basis, 2 k · short without, and the counters."""
    shapes = [(30, 10), (10, 10), (12, 40)]
    parameters = parts.steps.random_parameters(shapes, torch.device("cpu"))
    before = [parameter.detach().clone() for parameter in parameters]
    optimizers = {
        name: stepper.build(parameters, 4)
        for name, stepper in parts.steps.steppers(parts.refresh.refresh_methods(1, {}), {}, True).items()
    }
    assert list(optimizers) == ["srft", "srft_oblivious", "adamw"]
    times_ms = parts.steps.measure_steps(optimizers, 2, torch.device("cpu"))
    assert {name: len(times) for name, times in times_ms.items()} == dict.fromkeys(optimizers, 2)
    assert all(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    counters = (4 + 8) * len(shapes)
    numbers = sum(4 * (max(shape) + 2 * min(shape)) for shape in shapes)
    assert parts.steps.state_bytes(optimizers["srft"]) == 4 * numbers + counters
    numbers = sum(2 * 4 * min(shape) for shape in shapes)
    assert parts.steps.state_bytes(optimizers["srft_oblivious"]) == 4 * numbers + counters
    refreshes = [int(state["refresh_count"]) for state in optimizers["srft"].state.values()]
    assert refreshes == [1, 1, 1], "a timed step refreshed"


def test_the_longest_staggered_step_is_found(parts, monkeypatch):
    durations = iter([9.0, *(0.001, 0.002, 0.001, 0.001), *(0.001, 0.0015, 0.005, 0.001)])
    monkeypatch.setattr(parts.steps, "seconds_of", lambda call, device: next(durations))
    parameters = parts.steps.random_parameters([(8, 4)], torch.device("cpu"))
    settings = {"proj_type": "srft"}
    run = parts.steps.measure_staggered(parameters, 2, 4, settings, torch.device("cpu"))
    assert run["first_step_ms"] == 9000
    assert len(run["step_ms"]) == 8
    assert run["max_over_median"] == pytest.approx(5)
    assert run["repeated_max_over_median"] == pytest.approx(1.5)


def write_package(folder: Path, name: str, init: str, module: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(init)
    (folder / name / "inner.py").write_text(module)


def test_a_peer_is_imported_without_what_only_its_package_wants(parts, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(parts.peers, "UNNEEDED", ("missing_extra",))
    write_package(tmp_path, "peer_whole", "loaded = True", "answer = 1")
    write_package(
        tmp_path, "peer_lacking", "import missing_extra", "from . import other\nanswer = other.answer"
    )
    (tmp_path / "peer_lacking" / "other.py").write_text("answer = 2")
    write_package(tmp_path, "peer_broken", "", "import missing_need")
    write_package(tmp_path, "peer_barred", "import missing_too", "answer = 3")
    names = ("peer_whole", "peer_lacking", "peer_broken", "peer_barred", "peer_absent")
    monkeypatch.setattr(parts.peers, "PEERS", {name: f"{name}.inner" for name in names})
    monkeypatch.setattr(parts.peers.importlib.metadata, "version", lambda name: "3.1")
    modules, remarks = parts.peers.find_peers(names)
    assert {name: module.answer for name, module in modules.items()} == {"peer_whole": 1, "peer_lacking": 2}
    assert "peer_lacking" not in sys.modules, "a half-imported package was left behind"
    assert remarks == {
        "peer_whole": "version 3.1",
        "peer_lacking": "version 3.1",
        "peer_broken": "not installed: No module named 'missing_need'",
        "peer_barred": "not installed: No module named 'missing_too'",
        "peer_absent": "not installed: No module named 'peer_absent'",
    }


@pytest.mark.parametrize("name", ["galore-torch", "pytorch-optimizer", "apollo-torch"])
def test_peers_project_the_shorter_side(parts, name):
    peers, _ = parts.peers.find_peers([name])
    if not peers:
        pytest.skip(f"{name} is not installed")
    method = parts.refresh.refresh_methods(1, peers)[name]
    for shape in ((30, 12), (12, 30), (12, 12)):
        gradient = parts.matrices.synthetic_matrix(shape, 0.5)
        projection = method.compute(gradient, 4, 0, None)
        assert sorted(projection.shape) == [4, 12]
        if method.orthonormal:
            energy = parts.refresh.captured_energy(gradient, projection, method.side)
            assert energy == pytest.approx(exact_energy(12, 4, 0.5), rel=1e-4)
    stepper = parts.steps.steppers({}, peers, False)[name]
    parameters = parts.steps.random_parameters([(30, 12), (12, 12)], torch.device("cpu"))
    optimizer = stepper.build(parameters, 4)
    parts.steps.measure_steps({name: optimizer}, 1, torch.device("cpu"))
    # Moments of the longer side and a projection of the shorter one, at least.
    assert parts.steps.state_bytes(optimizer) >= 4 * 4 * (2 * 30 + 12 + 3 * 12)


def test_the_targets_speak_of_the_large_models_list(parts, repository):
    """Two weights in each of Hiera's 48 blocks; a stage's first block takes in half the width."""
    widths = [144] * 2 + [288] * 6 + [576] * 36 + [1152] * 4
    inputs = [144, *widths[:-1]]
    expected = [shape for i, o in zip(inputs, widths, strict=True) for shape in ((3 * o, i), (o, o))]
    large = repository / "hub_configs/models/large"
    shapes = list(parts.matrices.projected_shapes(large, quick=False).values())
    assert shapes == expected
    entries = sum(rows * columns for rows, columns in shapes)
    assert (len(shapes), entries) == (96, 68_553_216)
    figures = {"matrices": len(shapes), "parameters": entries, "rank": 128}
    assert parts.targets.is_target_setting(figures)
    quick = parts.matrices.projected_shapes(large, quick=True)
    assert sorted(quick.values(), key=math.prod) == sorted(shapes, key=math.prod)[: len(quick)]


def test_a_quick_run_writes_all_it_measures(repository, tmp_path):
    options = (
        f"--model {repository / 'hub_configs/models/synthetic-tiny'} --quick --rank 8 --rounds 2 --threads 1"
    )
    files = {name: tmp_path / f"out.{name}" for name in ("json", "md", "png")}
    command = [sys.executable, str(repository / "scripts/benchmark_optimizer.py"), *options.split()]
    command += [f"--output={files['json']}", f"--markdown={files['md']}", f"--plot={files['png']}"]
    command += ["--threads=1", "--stagger-gap=3", "--gradient-size=64", "--power-iterations=2"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert files["png"].is_file() or "matplotlib is not installed" in result.stderr
    figures = json.loads(files["json"].read_text())
    assert figures["matrices"] == 6
    assert figures["targets"] == []
    methods = figures["methods"]
    own = {"srft", "srft_power_2", "srft_warm_10", "srft_warm_10_fifth", "srft_warm_wholly"}
    own |= {"srft_energy", "srft_oblivious", "gaussian", "svd"}
    assert {name for name, method in methods.items() if method["own"]} == own
    for method in (methods[name] for name in (*own, "paper")):
        assert len(method["refresh_s"]) == 2
        assert set(method["energy"]) == {"i^-1/2", "1/i", "gradient"}
        assert all(0 < e["minimum"] <= e["mean"] < 1 + 1e-5 for e in method["energy"].values())
    assert all(methods["svd"]["energy"][s]["minimum"] > 1 - 1e-4 for s in figures["spectra"])
    # Two moments of every entry, and one counter a matrix.
    expected = (2 * figures["parameters"] + figures["matrices"]) * 4 / 2**20
    assert methods["adamw"]["state_mib"] == pytest.approx(expected)
    assert methods["srft"]["step_ms"] == methods["gaussian"]["step_ms"]
    assert methods["srft_oblivious"]["state_mib"] < methods["srft"]["state_mib"] < expected
    assert len(figures["staggered"]["srft"]["step_ms"]) == 6
    page = files["md"].read_text()
    assert f"torch {torch.__version__}" in page
    assert "1 thread(s)" in page
    written = page + files["json"].read_text()
    assert socket.gethostname() not in written
    assert platform.node() not in written


def test_options_that_cannot_be_followed_are_one_line(parts, repository, capsys, monkeypatch):
    model = str(repository / "hub_configs/models/synthetic-tiny")
    assert parts.command.main(["--model", model, "--methods", "srft", "sfrt"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "'sfrt' is unknown: choose from srft, srft_power_1," in message
    with pytest.raises(SystemExit):
        parts.command.main(["--model", "nowhere"])
    assert "nowhere holds no config.json" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        parts.command.main(["--model", model, "--device", "cuda"])
    assert "no CUDA device" in capsys.readouterr().err
