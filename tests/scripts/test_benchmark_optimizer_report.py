"""What scripts/benchmark_optimizer.py makes of its figures: verdicts, tables, a plot."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture(scope="module")
def parts(repository: Path) -> Iterator[SimpleNamespace]:
    """The script's modules by name, imported as they are when it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "scripts"))
        names = ("plot", "report", "targets")
        modules = {name: importlib.import_module(f"optimizer_benchmark.{name}") for name in names}
        yield SimpleNamespace(**modules)


def method_figures(
    label: str, refresh_s: list[float] | None = None, own: bool = True, **values: Any
) -> dict[str, Any]:
    median = None if refresh_s is None else statistics.median(refresh_s)
    empty = {"energy": {}, "step_ms": None, "step_median_ms": None, "state_mib": None}
    return {"label": label, "own": own, "refresh_s": refresh_s, "refresh_median_s": median} | empty | values


@pytest.fixture
def full_figures() -> dict[str, Any]:
    """Figures as a run over the full list would leave them, some good, some bad, some missing."""

    def energy(slow: float, fast: float) -> dict[str, Any]:
        values = {"i^-1/2": slow, "1/i": fast, "gradient": fast}
        return {spectrum: {"mean": mean, "minimum": mean - 0.1} for spectrum, mean in values.items()}

    methods = {
        "srft": method_figures(
            "srft", [1.0, 2.0, 1.0], energy=energy(0.83, 0.98), step_ms=[100.0] * 3, state_mib=105.9
        ),
        "srft_power_1": method_figures("power", [2.0, 4.0, 4.0], energy=energy(0.97, 1.0)),
        "srft_warm_10": method_figures("warm", [1.5, 1.5, 1.5], energy=energy(0.991, 1.0)),
        "gaussian": method_figures("gaussian", [9.0, 9.0, 9.0], energy=energy(0.995, 1.0)),
        "svd": method_figures("svd", [18.0, 36.0, 17.0], energy=energy(1.0, 1.0)),
        "paper": method_figures("the published way", [1.9, 5.0, 1.9], False, energy=energy(0.8, 0.99)),
        "galore-torch": method_figures("galore-torch", [18.0] * 3, False, step_ms=[90.0, 120.0, 110.0]),
    }
    staggered = {"gap": 50, "first_step_ms": 900.0, "median_ms": 100.0, "max_ms": 140.0}
    staggered |= {"max_over_median": 1.4, "repeated_max_over_median": 1.2}
    return {
        "model": "large", "model_weights": None, "matrices": 96, "parameters": 68_553_216, "rank": 128,
        "rounds": 3, "gradient_size_px": 256, "device": "cpu", "machine": "a processor", "threads": 2,
        "torch": "2", "date": "2026-01-01", "batched": False, "peers": {"apollo-torch": "not installed: why"},
        "spectra": ["i^-1/2", "1/i", "gradient"], "methods": methods, "staggered": {"srft": staggered},
        "unrefreshed": staggered,
    }  # fmt: skip


def test_targets_are_judged_by_the_figures(parts, full_figures):
    targets = parts.targets.judge(full_figures)
    verdicts = {target.text: (target.value, target.met) for target in targets}
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
    assert parts.targets.is_target_setting(full_figures)
    on_gpu = parts.targets.judge(full_figures | {"device": "cuda"})
    (extra,) = [target for target in on_gpu if target.text not in verdicts]
    assert (extra.value, extra.bound, extra.met) == (pytest.approx(1.1), 2, False)


def test_tables_show_figures_and_verdicts(parts, full_figures):
    targets = parts.targets.judge(full_figures)
    page = parts.report.report(full_figures, targets, parts.report.as_markdown)
    assert "| srft | 1.000 | 18.0× | – | 105.9 | 0.830 (0.730) | 0.980 (0.880) | 0.980 (0.880) |" in page
    assert "| srft: faster than the published way, times | ≥ 2 | 1.900 | not met |" in page
    assert "| srft_oblivious: state, MiB | ≤ 53 | – | not measured |" in page
    assert "| srft | 50 | 900.0 | 100.0 | 140.0 | 1.40 (1.20) |" in page
    assert "- apollo-torch: not installed: why." in page
    text = parts.report.report(full_figures | {"rank": 64}, targets, parts.report.as_text)
    assert "not met" not in text


def test_a_plot_has_its_width_and_a_reason_where_there_is_none(parts, full_figures, tmp_path, monkeypatch):
    without_svd = {name: m for name, m in full_figures["methods"].items() if name != "svd"}
    assert "svd" in parts.plot.why_no_plot(full_figures | {"methods": without_svd})
    found = importlib.util.find_spec("matplotlib")
    with monkeypatch.context() as patch:
        patch.setattr(parts.plot.importlib.util, "find_spec", lambda name: None)
        assert "matplotlib is not installed" in parts.plot.why_no_plot(full_figures)
    if found is None:
        pytest.skip("matplotlib is not installed")
    from PIL import Image

    parts.plot.save_plot(full_figures, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width == 900
