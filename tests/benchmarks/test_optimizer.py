"""benchmarks/optimizer.py: what its figures are made of and lead to, and a run over a handful of matrices."""

from __future__ import annotations

import json
import math
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import optimizer
from liver_landmark.optim import compute_basis
from optimizer import captured_energy, drifted, former_basis, refresh_methods, synthetic_matrix
from shared import state_bytes

METHODS = refresh_methods(2, {})


def exact_energy(size: int, rank: int, exponent: float) -> float:
    values = [index ** (-2 * exponent) for index in range(1, size + 1)]
    return sum(values[:rank]) / sum(values)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (24, 24)])
def test_energy_is_the_leading_singular_values_share(shape):
    gradient = synthetic_matrix(shape, 1.0, seed=3)
    left, values, right = torch.linalg.svd(gradient)
    torch.testing.assert_close(values, 1 / torch.arange(1.0, 25), rtol=1e-4, atol=1e-5)
    expected = pytest.approx(exact_energy(24, 5, 1.0), rel=1e-5)
    sides = [left[:, :5], right[:5].T]
    longer, shorter = sides if shape[0] >= shape[1] else sides[::-1]
    assert captured_energy(gradient, longer, "longer") == expected
    assert captured_energy(gradient, shorter, "shorter") == expected
    if shape[0] != shape[1]:
        assert captured_energy(gradient, shorter.T, "shorter") == expected
    assert optimizer.best_energy(gradient, 5) == expected
    assert optimizer.relative_energies({"svd": METHODS["svd"]}, [gradient], 5)["svd"] == [pytest.approx(1)]


def test_a_former_gradient_differs_as_said_and_keeps_the_spectrum():
    matrix = synthetic_matrix((96, 48), 0.5)
    near = drifted(matrix, 0.1, seed=1)
    assert float((near - matrix).norm() / matrix.norm()) == pytest.approx(0.1, abs=0.01)
    far = drifted(matrix, 1.0, seed=1)
    torch.testing.assert_close(torch.linalg.svdvals(far), torch.linalg.svdvals(matrix), rtol=1e-4, atol=1e-5)
    # Unrelated: the leading subspace of one holds no more of the other's than a random one, k / m.
    leading = torch.linalg.svd(matrix).U[:, :8]
    overlap = float((leading.T @ torch.linalg.svd(far).U[:, :8]).square().sum()) / 8
    assert overlap < 0.35


def test_a_warm_start_finds_the_basis_of_a_gradient_that_moved():
    """The chain of former refreshes, against one that is written out."""
    gradient = synthetic_matrix((64, 32), 0.5)
    past = [gradient]
    for step in range(5):
        past.append(drifted(past[-1], 0.1, seed=7000 + step))
    basis = compute_basis(past[5], 6, seed=7)
    for former in (past[4], past[3], past[2], past[1]):
        basis = compute_basis(former, 6, seed=7, start=basis)
    torch.testing.assert_close(former_basis(METHODS["srft_warm_10_fifth"], gradient, 6, 7), basis)
    assert former_basis(METHODS["srft"], gradient, 6, 7) is None


def test_the_published_way_by_an_explicit_fourier_matrix():
    """Its first k columns span the real and imaginary parts of the first k / 2 bins of the complex basis."""
    gradient = synthetic_matrix((30, 20), 0.5)
    basis = optimizer.published_basis(gradient, 6, seed=5)
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
    assert optimizer.published_basis(gradient.T, 6, seed=5).shape == (30, 6)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_refresh_takes_the_whole_list(stacked):
    seen = []

    def compute(gradient, rank, seed, start):
        seen.append((tuple(gradient.shape), seed, None if start is None else tuple(start.shape)))
        return torch.eye(gradient.shape[-2], rank)

    shapes = [(8, 4), (6, 6), (8, 4)]
    matrices = {shape: torch.ones(shape) for shape in shapes}
    method = optimizer.Refresh("counted", compute, drift=1.0, settings={"proj_type": "own"})
    [seconds] = optimizer.measure_refresh({"counted": method}, matrices, shapes, 2, 1, stacked)["counted"]
    assert seconds > 0
    # Before the timed ones: two former bases, and a warm-up of each shape.
    if stacked:
        assert [call[0] for call in seen[4:]] == [(2, 8, 4), (6, 6)]
        assert seen[4][2] == (2, 8, 2)
    else:
        assert [call[0] for call in seen[4:]] == shapes
        assert len({call[1] for call in seen[4:]}) == 3
        assert seen[4][2] == (8, 2)


def test_stacked_refreshes_are_those_of_single_matrices():
    gradients = torch.stack([synthetic_matrix((12, 20), 0.5, seed) for seed in range(3)])
    # Of the best possible; a basis that knows nothing of its matrix captures 0.3 of it.
    floors = {"srft_energy": 0.6, "gaussian": 0.6, "svd": 0.9999, "srft_power_2": 0.95}
    for name, floor in floors.items():
        bases = METHODS[name].compute(gradients, 4, 5, None)
        assert bases.shape == (3, 20, 4)
        for gradient, basis in zip(gradients, bases, strict=True):
            torch.testing.assert_close(basis.T @ basis, torch.eye(4), atol=1e-5, rtol=0)
            assert captured_energy(gradient, basis, "longer") / optimizer.best_energy(gradient, 4) > floor
    first, second = METHODS["srft"].compute(gradients[:1].repeat(2, 1, 1), 4, 5, None)
    assert not torch.allclose(first @ first.T, second @ second.T, atol=0.1), "matrices shared their draws"


def test_own_state_in_closed_form():
    """k · (long + 2 · short) numbers a matrix with a stored basis, 2 k · short without, and the counters."""
    shapes = [(30, 10), (10, 10), (12, 40)]
    parameters = optimizer.random_parameters(shapes)
    before = [parameter.detach().clone() for parameter in parameters]
    names = {optimizer.stepped_as(name, method) for name, method in METHODS.items()}
    assert names == {"srft", "srft_oblivious", None}
    built = optimizer.build_optimizers(["srft", "srft_oblivious", "adamw"], {}, parameters, 4)
    times_ms = optimizer.measure_steps(built, 2)
    assert {name: len(times) for name, times in times_ms.items()} == dict.fromkeys(built, 2)
    assert all(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    counters = (4 + 8) * len(shapes)
    numbers = sum(4 * (max(shape) + 2 * min(shape)) for shape in shapes)
    assert state_bytes(built["srft"]) == 4 * numbers + counters
    numbers = sum(2 * 4 * min(shape) for shape in shapes)
    assert state_bytes(built["srft_oblivious"]) == 4 * numbers + counters
    refreshes = [int(state["refresh_count"]) for state in built["srft"].state.values()]
    assert refreshes == [1, 1, 1], "a timed step refreshed"


def test_the_longest_staggered_step_is_found(monkeypatch):
    durations = iter([9.0, *(0.001, 0.002, 0.001, 0.001), *(0.001, 0.0015, 0.005, 0.001)])
    monkeypatch.setattr(optimizer, "seconds_of", lambda call, device: next(durations))
    parameters = optimizer.random_parameters([(8, 4)])
    run = optimizer.measure_staggered(parameters, 2, 4, {"proj_type": "srft"})
    assert run["first_step_ms"] == 9000
    assert len(run["step_ms"]) == 8
    assert run["max_over_median"] == pytest.approx(5)
    assert run["repeated_max_over_median"] == pytest.approx(1.5)


def test_a_peer_is_imported_without_what_only_its_package_wants(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(optimizer, "UNNEEDED", ("missing_extra",))
    for path, code in {
        "whole/__init__": "loaded = True",
        "whole/inner": "answer = 1",
        "lacking/__init__": "import missing_extra",
        "lacking/inner": "from . import other\nanswer = other.answer",
        "lacking/other": "answer = 2",
        "broken/inner": "import missing_need",
        "barred/__init__": "import missing_too",
        "barred/inner": "answer = 3",
    }.items():
        file = tmp_path / f"peer_{path}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    missing = {"broken": "missing_need", "barred": "missing_too", "absent": "peer_absent"}
    names = [f"peer_{name}" for name in ("whole", "lacking", *missing)]
    monkeypatch.setattr(optimizer, "PEERS", {name: f"{name}.inner" for name in names})
    monkeypatch.setattr(optimizer.importlib.metadata, "version", lambda name: "3.1")
    modules, remarks = optimizer.find_peers(names)
    assert {name: module.answer for name, module in modules.items()} == {"peer_whole": 1, "peer_lacking": 2}
    assert "peer_lacking" not in sys.modules, "a half-imported package was left behind"
    expected = dict.fromkeys(("peer_whole", "peer_lacking"), "version 3.1")
    for name, module in missing.items():
        expected[f"peer_{name}"] = f"not installed: No module named '{module}'"
    assert remarks == expected


@pytest.mark.parametrize("name", list(optimizer.PEERS))
def test_peers_project_the_shorter_side(name):
    peers, _ = optimizer.find_peers([name])
    if not peers:
        pytest.skip(f"{name} is not installed")
    method = refresh_methods(1, peers)[name]
    for shape in ((30, 12), (12, 30), (12, 12)):
        gradient = synthetic_matrix(shape, 0.5)
        projection = method.compute(gradient, 4, 0, None)
        assert sorted(projection.shape) == [4, 12]
        if method.orthonormal:
            energy = captured_energy(gradient, projection, method.side)
            assert energy == pytest.approx(exact_energy(12, 4, 0.5), rel=1e-4)
    parameters = optimizer.random_parameters([(30, 12), (12, 12)])
    built = optimizer.build_optimizers([optimizer.stepped_as(name, method)], peers, parameters, 4)
    optimizer.measure_steps(built, 1)
    # Moments of the longer side and a projection of the shorter one, at least.
    assert state_bytes(built[name]) >= 4 * 4 * (2 * 30 + 12 + 3 * 12)


@pytest.fixture
def full_figures() -> dict[str, Any]:
    """Figures as a run over the full list would leave them, some good, some bad, some missing."""
    methods = {}
    for name, label, refresh_s, energy, own in (
        ("srft", "srft", [1.0, 2.0, 1.0], (0.83, 0.98), True),
        ("srft_power_1", "power", [2.0, 4.0, 4.0], (0.97, 1.0), True),
        ("srft_warm_10", "warm", [1.5] * 3, (0.991, 1.0), True),
        ("gaussian", "gaussian", [9.0] * 3, (0.995, 1.0), True),
        ("svd", "svd", [18.0, 36.0, 17.0], (1.0, 1.0), True),
        ("paper", "the published way", [1.9, 5.0, 1.9], (0.8, 0.99), False),
        ("galore-torch", "galore-torch", [18.0] * 3, (), False),
    ):
        means = zip(("i^-1/2", "1/i", "gradient"), (*energy, *energy[1:]), strict=False)
        methods[name] = {
            "label": label, "own": own, "step_ms": None, "step_median_ms": None, "state_mib": None,
            "refresh_s": refresh_s, "refresh_median_s": statistics.median(refresh_s),
            "energy": {spectrum: {"mean": mean, "minimum": mean - 0.1} for spectrum, mean in means},
        }  # fmt: skip
    methods["srft"] |= {"step_ms": [100.0] * 3, "state_mib": 105.9}
    methods["galore-torch"] |= {"step_ms": [90.0, 120.0, 110.0]}
    staggered = {"gap": 50, "first_step_ms": 900.0, "median_ms": 100.0, "max_ms": 140.0}
    staggered |= {"max_over_median": 1.4, "repeated_max_over_median": 1.2}
    return {
        "model": "large", "model_weights": None, "matrices": 96, "parameters": 68_553_216, "rank": 128,
        "rounds": 3, "gradient_size_px": 256, "device": "cpu", "machine": "a processor", "threads": 2,
        "torch": "2", "date": "2026-01-01", "batched": False, "peers": {"apollo-torch": "not installed: why"},
        "spectra": ["i^-1/2", "1/i", "gradient"], "methods": methods, "staggered": {"srft": staggered},
        "unrefreshed": staggered,
    }  # fmt: skip


def test_targets_are_judged_by_the_figures(full_figures):
    verdicts = {row["target"]: (row["value"], row["met"]) for row in optimizer.judge(full_figures)}
    assert verdicts == {
        # Ratios by round: 18, 18, 17; 1.9, 2.5, 1.9; 9, 9, 4.25; 100/90, 100/120, 100/110.
        "srft: refresh faster than svd, times": (18, True),
        "srft: faster than the published way, times": (1.9, False),
        "srft: energy on i^-1/2, relative to SVD": (0.83, True),
        "srft: energy on 1/i": (0.98, False),
        "1 power iteration: faster than svd, times": (9, True),
        "1 power iteration: energy on i^-1/2": (0.97, True),
        "most energy on i^-1/2 at least 10 times faster than svd: warm": (0.991, True),
        "srft: state, MiB": (105.9, True),
        "srft_oblivious: state, MiB": (None, None),
        "srft: step / galore-torch's step": (pytest.approx(100 / 110), True),
        "srft, staggered: longest step / median step": (1.4, False),
    }
    on_gpu = optimizer.judge(full_figures | {"device": "cuda"})
    (extra,) = [row for row in on_gpu if row["target"] not in verdicts]
    assert extra["value"] == pytest.approx(1.1)
    assert (extra["bound"], extra["met"]) == ("≥ 2", False)
    assert optimizer.judge(full_figures | {"rank": 64}) == []


def test_tables_show_figures_and_verdicts(full_figures):
    page = optimizer.report(full_figures | {"targets": optimizer.judge(full_figures)}, markdown=True)
    assert "| srft | 1.000 | 18.0× | – | 105.9 | 0.830 (0.730) | 0.980 (0.880) | 0.980 (0.880) |" in page
    assert "| srft: faster than the published way, times | ≥ 2 | 1.900 | not met |" in page
    assert "| srft_oblivious: state, MiB | ≤ 53 | – | not measured |" in page
    assert "| srft | 50 | 900.0 | 100.0 | 140.0 | 1.40 (1.20) |" in page
    assert "- apollo-torch: not installed: why." in page
    text = optimizer.report(full_figures | {"targets": []}, markdown=False)
    assert "No targets: " in text
    heads = [line for line in text.splitlines() if line.startswith(("method", "svd"))]
    assert len({len(line) for line in heads}) == 1, "columns are not aligned"


def test_the_targets_speak_of_the_large_models_list(repository):
    """Two weights in each of Hiera's 48 blocks; a stage's first block takes in half the width."""
    widths = [144] * 2 + [288] * 6 + [576] * 36 + [1152] * 4
    inputs = [144, *widths[:-1]]
    expected = [shape for i, o in zip(inputs, widths, strict=True) for shape in ((3 * o, i), (o, o))]
    large = repository / "hub_configs/models/large"
    shapes = list(optimizer.projected_shapes(large, quick=False).values())
    assert shapes == expected
    assert (len(shapes), sum(map(math.prod, shapes))) == optimizer.TARGET_LIST
    quick = optimizer.projected_shapes(large, quick=True)
    assert sorted(quick.values(), key=math.prod) == sorted(shapes, key=math.prod)[: len(quick)]


def test_a_quick_run_writes_all_it_measures(repository, tmp_path):
    files = {name: tmp_path / f"out.{name}" for name in ("json", "md", "png")}
    arguments = ["--quick", "--rank=8", "--rounds=2", "--threads=1", "--stagger-gap=3", "--gradient-size=64"]
    arguments += [f"--model={repository / 'hub_configs/models/synthetic-tiny'}", "--power-iterations=2"]
    arguments += [f"--output={files['json']}", f"--markdown={files['md']}", f"--plot={files['png']}"]
    assert optimizer.main(arguments) == 0
    with Image.open(files["png"]) as picture:
        assert picture.width == 900
    figures = json.loads(files["json"].read_text())
    assert (figures["matrices"], figures["targets"]) == (6, [])
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
    assert platform.node() not in page + files["json"].read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--methods srft sfrt", "--methods: 'sfrt' is unknown: choose from srft, srft_power_1,"),
        ("--model nowhere", "nowhere holds no config.json"),
        ("--device cuda", "no CUDA device"),
        ("--rank 0", "argument --rank: must be at least 1, got 0"),
        ("--rank two", "argument --rank: 'two' is not an integer"),
        ("--stagger-gap -1", "--stagger-gap: must be at least 0"),
        ("--methods srft --plot x.png", "--plot: times are relative to svd's"),
    ],
)
def test_options_that_cannot_be_followed_are_one_line(repository, capsys, monkeypatch, options, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = Path(repository, "hub_configs/models/synthetic-tiny")
    with pytest.raises(SystemExit) as stopped:
        optimizer.main(["--model", str(model), *options.split()])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
