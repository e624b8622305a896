"""The figures as a terminal's tables and as a Markdown page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .targets import Target, is_target_setting
from .timing import median_ratio

NO_FIGURE = "–"


def _number(value: float | None, form: str) -> str:
    return NO_FIGURE if value is None else format(value, form)


def _energy(figures: dict[str, Any], spectrum: str) -> Callable[[dict[str, Any]], str]:
    def cell(method: dict[str, Any]) -> str:
        if spectrum not in method["energy"]:
            return NO_FIGURE
        return "{mean:.3f} ({minimum:.3f})".format(**method["energy"][spectrum])

    return cell


def method_table(figures: dict[str, Any]) -> list[list[str]]:
    """Header and one row for each method."""
    svd = figures["methods"].get("svd", {}).get("refresh_s")

    def speed(method: dict[str, Any]) -> str:
        if svd is None or method["refresh_s"] is None:
            return NO_FIGURE
        return f"{median_ratio(svd, method['refresh_s']):.1f}×"

    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "method": lambda method: method["label"],
        "refresh, s": lambda method: _number(method["refresh_median_s"], ".3f"),
        "SVD / it": speed,
        "step, ms": lambda method: _number(method["step_median_ms"], ".1f"),
        "state, MiB": lambda method: _number(method["state_mib"], ".1f"),
        **{f"energy, {spectrum}": _energy(figures, spectrum) for spectrum in figures["spectra"]},
    }
    rows = [[cell(method) for cell in columns.values()] for method in figures["methods"].values()]
    return [list(columns), *rows]


def staggered_table(figures: dict[str, Any]) -> list[list[str]]:
    """Header and one row for each staggered run."""
    header = ["staggered refresh", "gap", "first step, ms", "median, ms", "longest, ms"]
    runs = {figures["methods"][name]["label"]: run for name, run in figures["staggered"].items()}
    runs["no refresh, to compare"] = figures["unrefreshed"]
    rows = [
        [
            label,
            str(run["gap"]),
            *(f"{run[key]:.1f}" for key in ("first_step_ms", "median_ms", "max_ms")),
            f"{run['max_over_median']:.2f} ({run['repeated_max_over_median']:.2f})",
        ]
        for label, run in runs.items()
    ]
    return [[*header, "longest / median (repeated in both cycles)"], *rows]


def target_table(targets: list[Target]) -> list[list[str]]:
    """Header and one row for each target."""
    verdicts = {True: "met", False: "not met", None: "not measured"}
    rows = []
    for target in targets:
        row = target.as_row()
        rows.append([row["target"], row["bound"], _number(row["value"], ".3f"), verdicts[row["met"]]])
    return [["target", "bound", "measured", "verdict"], *rows]


def setting_line(figures: dict[str, Any]) -> str:
    """What was measured, and where."""
    return (
        f"{figures['matrices']} matrices of {figures['model']} ({figures['parameters'] / 1e6:.1f} M "
        f"parameters), float32, rank {figures['rank']}; {figures['device']}: {figures['machine']}, "
        f"{figures['threads']} thread(s), torch {figures['torch']}; {figures['date']}; medians of "
        f"{figures['rounds']} interleaved round(s), ratios taken within rounds."
    )


def notes(figures: dict[str, Any]) -> list[str]:
    """What the tables' figures mean."""
    weights = figures["model_weights"] or "random weights"
    lines = [
        "refresh: of all matrices, with σᵢ = i^-1/2; step: of all matrices, between refreshes.",
        "Projectors that store a basis share one measurement of step and state.",
        "state: every storage that the optimizer's state keeps alive, as a whole.",
        "energy: ‖PᵀG‖² / ‖G‖² over the most that any projection of that rank captures; mean over the "
        "matrices (and minimum).",
        f"gradient: the loss's for one synthetic frame of {figures['gradient_size_px']} px, {weights}.",
        *(f"{peer}: {remark}." for peer, remark in figures["peers"].items()),
    ]
    if figures["batched"]:
        lines.append("This package's refreshes are batched over matrices of one shape.")
    return lines


def as_text(table: list[list[str]]) -> str:
    """A table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(table: list[list[str]]) -> str:
    """A table in Markdown."""
    rule = ["---", *(["--:"] * (len(table[0]) - 1))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (table[0], rule, *table[1:]))


def report(figures: dict[str, Any], targets: list[Target], form: Callable[[list[list[str]]], str]) -> str:
    """Everything in words and tables, by `as_text` or `as_markdown`."""
    bullet = "- " if form is as_markdown else ""
    parts = [
        setting_line(figures),
        form(method_table(figures)),
        "\n".join(bullet + note for note in notes(figures)),
    ]
    if figures["staggered"]:
        parts.append(form(staggered_table(figures)))
    if is_target_setting(figures):
        parts.append(form(target_table(targets)))
    else:
        parts.append("No targets: they speak of the 96 matrices of hub_configs/models/large at rank 128.")
    return "\n\n".join(parts) + "\n"
