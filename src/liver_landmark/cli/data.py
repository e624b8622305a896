"""`liver-landmark data ...`: build datasets, look at them, check, count and export them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import (
    Command,
    CommandError,
    DatasetArgument,
    Interrupted,
    RunError,
    Split,
    announce,
    comma_separated,
    known_protocol,
    one_line_errors,
    parse_size,
    quiet_datasets,
)

if TYPE_CHECKING:
    from ..data.build import RawRequest
    from ..data.readers import Problem, SplitOptions

data_app = typer.Typer(
    help="Build datasets of this project's schema, look at them, check, count and export them. "
    r'Needs: pip install "liver-landmark\[train]"'
)
build_app = typer.Typer(
    help="Build a dataset: Parquet that plain datasets.load_dataset(DIR) reads. Frames of RAW that cannot be "
    "read are left out and named on stderr and in DIR/report.json; --strict stops at the first. A build that "
    "was interrupted or killed goes on where it was when it is started again."
)
data_app.add_typer(build_app, name="build")

OneSplit = Annotated[Split | None, typer.Option("--split", help="Default: all splits.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")]


@data_app.command("show", cls=Command)
def show(
    dataset: DatasetArgument,
    split: OneSplit = None,
    frames: Annotated[
        int, typer.Option("--frames", min=1, metavar="N", help="How many, spread over the patients.")
    ] = 24,
    patient: Annotated[
        str | None, typer.Option("--patient", metavar="P", help="Frames of this patient only.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="P",
            callback=known_protocol,
            help="Draw the labels by it: d2gpland, srft_galore, slippa and so on. Default: labels as stored.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", metavar="SHEET.png", help="PNG file to write, numbered where there are several."
        ),
    ] = Path("contact_sheet.png"),
    overwrite: Overwrite = False,
) -> int:
    """Write contact sheets: each frame plain, and below it with label and polylines."""
    if output.suffix.lower() != ".png":
        raise CommandError(f"--output {output}: sheets are PNG files, call it {output.with_suffix('.png')}")
    announce(f"reading {dataset}")
    from ..data.show import choose_frames, sheet_paths, write_sheets

    with one_line_errors():
        splits = _load(dataset, split, protocol)
        places = choose_frames(splits, frames, patient)
        paths = sheet_paths(output, len(places))
        _check_free(paths, overwrite)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_sheets(splits, places, paths, progress=sys.stderr.isatty())
    print(f"{len(places)} frames in {', '.join(map(str, paths))}")
    return 0


@data_app.command("check", cls=Command)
def check(
    datasets: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders of datasets.")],
) -> int:
    """Find everything that can be wrong with a dataset.

    Reads every picture, polyline and label of dataset folders and prints a line for each problem: types,
    sizes, class ids, labels that are not what their protocol draws, patients and pictures in two splits,
    metadata left in pictures, counts of the card. The exit code is 1 where there are problems.
    """
    announce(f"reading {', '.join(map(str, datasets))}")
    from tqdm import tqdm

    from ..data.check import SetCheck

    quiet_datasets()
    problems = 0
    for folder in datasets:
        checked = SetCheck(folder)
        with one_line_errors():
            for problem in checked.problems(progress=sys.stderr.isatty()):
                # Through tqdm, which keeps its bar below the lines.
                tqdm.write(str(problem), file=sys.stdout)
        counts = checked.counts
        frames = ", ".join(f"{count} {split}" for split, count in counts.frames.items()) or "none"
        patients = len(set().union(*counts.patients.values()))
        plural = "s" if checked.found != 1 else ""
        found = f"{checked.found} problem{plural}" if checked.found else "no problems"
        print(f"{folder}: {found}; frames: {frames}; patients: {patients}")
        problems += checked.found
    return 1 if problems else 0


@data_app.command("stats", cls=Command)
def stats(
    dataset: DatasetArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder for stats.json and the plots. Default: none."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    overwrite: Overwrite = False,
) -> int:
    """Count frames, classes and curves of each split; with plots where --output is given."""
    announce(f"reading {dataset}")
    from ..data.statistics import (
        PLOT_FILES,
        STATISTICS_FILE,
        format_statistics,
        split_statistics,
        write_statistics,
    )

    with one_line_errors():
        if output is not None:
            _check_free([output / name for name in (STATISTICS_FILE, *PLOT_FILES)], overwrite)
        splits = _load(dataset, None, None)
        statistics = {
            split: split_statistics(rows, progress=sys.stderr.isatty()) for split, rows in splits.items()
        }
        written = [] if output is None else write_statistics(output, statistics, dataset)
    if as_json:
        print(json.dumps({split: found.summary for split, found in statistics.items()}, indent=2))
    else:
        print(format_statistics(statistics))
        if written:
            print(f"written: {', '.join(map(str, written))}")
    return 0


@data_app.command("export", cls=Command)
def export(
    dataset: DatasetArgument,
    format: Annotated[
        str,
        # The writers name their formats where one is unknown: no second list of them here.
        typer.Option("--format", metavar="F", help="labelme, cvat, p2ilf-json, p2ilf-xml or svg."),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="OUT", help="New or empty folder.")],
    split: OneSplit = None,
) -> int:
    """Write frames and annotation files for other tools.

    The frames as they are stored and their polylines: for labelme and CVAT, where they can be corrected and
    rebuilt, for P2ILF's scripts, or as SVG.
    """
    announce(f"reading {dataset}")
    from ..data.export import export_set

    with one_line_errors():
        splits = _load(dataset, split, None)
        count = export_set(splits, output, format)
    print(f"{count} frames in {output}")
    return 0


def _load(dataset: str, split: str | None, protocol: str | None) -> dict[str, Any]:
    from ..data.loading import load_landmark_dataset

    quiet_datasets()
    loaded = load_landmark_dataset(dataset, split, protocol)
    return dict(loaded) if split is None else {split: loaded}


def _check_free(paths: Sequence[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not (overwrite and path.is_file()):
            way_out = "pass --overwrite, or choose" if path.is_file() else "choose"
            raise CommandError(f"{path} is there already: {way_out} another --output")


# What the builds share.
_SPLITS, _LAYOUT, _HUB, _SPEED = "Splits, by patient", "How RAW is laid out", "Hub", "Speed"
_NOTHING_TO_DO = "holds this very dataset already, nothing to do"

RawFolder = Annotated[Path, typer.Argument(metavar="RAW", help="Folder of the raw set.")]
Target = Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder to write.")]
OverwriteSet = Annotated[bool, typer.Option("--overwrite", help="Replace another dataset in DIR.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first problem, leaving nothing.")]
LabelProtocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="P",
        callback=known_protocol,
        help="How the stored label is drawn; polylines stay. Default: d2gpland for l3d, p2ilf for p2ilf, "
        "as_drawn (the mask itself) for llsd, synthetic (30 px at 1920 px of width) for custom.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        show_default="one per core",
        help="Processes or threads that read or render frames; at most 8 read.",
        rich_help_panel=_SPEED,
    ),
]
SplitSeed = Annotated[
    int,
    typer.Option(
        "--split-seed",
        help="Of the draw, by the patients' names, unless train, val and test folders decide.",
        rich_help_panel=_SPLITS,
    ),
]
ValidationPatients = Annotated[
    str, typer.Option("--validation-patients", metavar="A,B", show_default=False, rich_help_panel=_SPLITS)
]
TestPatients = Annotated[
    str,
    typer.Option(
        "--test-patients",
        metavar="C",
        help="All that are not named train.",
        show_default=False,
        rich_help_panel=_SPLITS,
    ),
]
TestOnly = Annotated[
    bool, typer.Option("--test-only", help="Every patient is for testing.", rich_help_panel=_SPLITS)
]
PatientPattern = Annotated[
    str | None,
    typer.Option(
        "--patient-pattern",
        metavar="REGEX",
        help="Finds the patient in a frame's path below RAW, with one group. Default: the folder's name.",
        rich_help_panel=_LAYOUT,
    ),
]
Source = Annotated[
    str, typer.Option("--source", metavar="NAME", help="Of the `source` column.", rich_help_panel=_LAYOUT)
]
Landmarks = Annotated[
    str,
    typer.Option(
        "--landmarks",
        metavar="NAME,NAME,…",
        help="The set's landmarks in the order of their ids; labels and palettes mean them by these names.",
        rich_help_panel=_LAYOUT,
    ),
]
PushToHub = Annotated[
    str | None,
    typer.Option(
        "--push-to-hub", metavar="ID", help="Upload the set, as USER/NAME, private.", rich_help_panel=_HUB
    ),
]
Public = Annotated[
    bool,
    typer.Option("--public", help="A repository made for --push-to-hub is public.", rich_help_panel=_HUB),
]
DEFAULT_WORKERS = os.cpu_count() or 1


@dataclass(frozen=True)
class _Place:
    """Where a built set goes."""

    output: Path
    overwrite: bool
    push_to_hub: str | None
    public: bool

    def check(self) -> None:
        if self.public and not self.push_to_hub:
            raise CommandError("--public is for --push-to-hub")
        if self.push_to_hub:
            from ..data.build import check_repo_id

            with one_line_errors():
                check_repo_id(self.push_to_hub)

    def tell(self, done: str) -> int:
        """Prints what was done, and uploads the set where that is asked for."""
        print(f"{self.output}: {done}", flush=True)
        if self.push_to_hub:
            from ..data.build import PublishError, publish

            announce(f"uploading to {self.push_to_hub}")
            try:
                address = publish(self.output, self.push_to_hub, public=self.public)
            except PublishError as error:
                raise RunError(str(error)) from error
            print(f"{self.output}: pushed to {address}")
        return 0


@build_app.command("synthetic", cls=Command)
def build_synthetic_set(
    domain: Annotated[
        Literal["a", "b"], typer.Option("--domain", help="a: as trained on; b: another hospital.")
    ],
    output: Target,
    patients: Annotated[int, typer.Option("--patients", help="Patients in all splits.")] = 40,
    frames: Annotated[int, typer.Option("--frames", help="Frames of all patients.")] = 800,
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Of a frame, in px.")] = "456x256",
    seed: Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")] = 0,
    overwrite: OverwriteSet = False,
    workers: Workers = DEFAULT_WORKERS,
    push_to_hub: PushToHub = None,
    public: Public = False,
) -> int:
    """Render the synthetic benchmark."""
    width, height = parse_size(size, "--size")
    place = _Place(output, overwrite, push_to_hub, public)
    place.check()
    announce(f"rendering {frames} frames into {output}")
    from ..data.build import build_synthetic
    from ..synthetic import SyntheticRequest
    from ..utils.hub_configs import dataset_card

    with one_line_errors(), _going_on():
        request = SyntheticRequest(domain, patients, frames, width, height, seed)
        built = build_synthetic(request, output, dataset_card("synthetic"), workers, overwrite)
    return place.tell("built" if built else _NOTHING_TO_DO)


@build_app.command("l3d", cls=Command)
def build_l3d(
    raw: RawFolder,
    output: Target,
    edition: Annotated[
        Literal["l3d", "l3d-2k"],
        typer.Option("--edition", help="l3d checks the published splits, with l3d-2k folders decide."),
    ] = "l3d",
    no_depth: Annotated[bool, typer.Option("--no-depth", help="Leave depth maps out.")] = False,
    protocol: LabelProtocol = None,
    strict: Strict = False,
    overwrite: OverwriteSet = False,
    workers: Workers = DEFAULT_WORKERS,
    push_to_hub: PushToHub = None,
    public: Public = False,
) -> int:
    """Read L3D or L3D-2K as published."""

    def request() -> RawRequest:
        from ..data.build import RawRequest
        from ..data.readers import L3dOptions

        return RawRequest("l3d", raw, L3dOptions(edition, depth=not no_depth), protocol=protocol)

    return _build_raw(raw, request, _Place(output, overwrite, push_to_hub, public), workers, strict)


@build_app.command("p2ilf", cls=Command)
def build_p2ilf(
    raw: RawFolder,
    output: Target,
    protocol: LabelProtocol = None,
    strict: Strict = False,
    overwrite: OverwriteSet = False,
    split_seed: SplitSeed = 0,
    validation_patients: ValidationPatients = "",
    test_patients: TestPatients = "",
    test_only: TestOnly = False,
    workers: Workers = DEFAULT_WORKERS,
    push_to_hub: PushToHub = None,
    public: Public = False,
) -> int:
    """Read the P2ILF challenge's frames and contours."""

    def request() -> RawRequest:
        from ..data.build import RawRequest

        splits = _splits(split_seed, validation_patients, test_patients, test_only)
        return RawRequest("p2ilf", raw, None, splits, protocol)

    return _build_raw(raw, request, _Place(output, overwrite, push_to_hub, public), workers, strict)


@build_app.command("llsd", cls=Command)
def build_llsd(
    raw: RawFolder,
    output: Target,
    frames: Annotated[
        str, typer.Option("--frames", metavar="NAME", help="Frame folders.", rich_help_panel=_LAYOUT)
    ] = "images",
    masks: Annotated[
        str | None,
        typer.Option(
            "--masks",
            metavar="NAME",
            help="Mask folders. Default: masks_gt or masks_original.",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    mask_suffix: Annotated[
        str | None,
        typer.Option(
            "--mask-suffix",
            metavar="TEXT",
            help="What a mask's name has behind its frame's.",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(
            "--palette",
            metavar="COLORS",
            help="masks_gt, masks_original, p2ilf, or ridge=#ff0000,silhouette=#ffff00,ligament=#0000ff. "
            "Default: by the mask folder's name.",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    landmarks: Landmarks = "ridge,silhouette,ligament",
    patient_pattern: PatientPattern = None,
    source: Source = "llsd",
    protocol: LabelProtocol = None,
    strict: Strict = False,
    overwrite: OverwriteSet = False,
    split_seed: SplitSeed = 0,
    validation_patients: ValidationPatients = "",
    test_patients: TestPatients = "",
    test_only: TestOnly = False,
    workers: Workers = DEFAULT_WORKERS,
    push_to_hub: PushToHub = None,
    public: Public = False,
) -> int:
    """Read LLSD, or any folders of frames and color masks."""

    def request() -> RawRequest:
        from ..data.build import RawRequest
        from ..data.readers import MaskOptions

        names = _names(landmarks)
        options = MaskOptions(frames, masks, mask_suffix, palette, patient_pattern, source, names)
        splits = _splits(split_seed, validation_patients, test_patients, test_only)
        return RawRequest("llsd", raw, options, splits, protocol)

    return _build_raw(raw, request, _Place(output, overwrite, push_to_hub, public), workers, strict)


@build_app.command("custom", cls=Command)
def build_custom(
    raw: RawFolder,
    output: Target,
    format: Annotated[
        Literal["labelme", "cvat"],
        typer.Option("--format", help="What the frames were annotated with.", rich_help_panel=_LAYOUT),
    ],
    label_map: Annotated[
        list[str] | None,
        typer.Option(
            "--label-map",
            metavar="LABEL=CLASS",
            help="What a label means: a landmark of --landmarks, or ignore; repeat it, or give a JSON file.",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations",
            metavar="FILE",
            help="CVAT's XML. Default: annotations.xml.",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    landmarks: Landmarks = "ridge,silhouette,ligament",
    patient_pattern: PatientPattern = None,
    source: Source = "custom",
    protocol: LabelProtocol = None,
    strict: Strict = False,
    overwrite: OverwriteSet = False,
    split_seed: SplitSeed = 0,
    validation_patients: ValidationPatients = "",
    test_patients: TestPatients = "",
    test_only: TestOnly = False,
    workers: Workers = DEFAULT_WORKERS,
    push_to_hub: PushToHub = None,
    public: Public = False,
) -> int:
    """Read your own frames, annotated with labelme or CVAT."""

    def request() -> RawRequest:
        from ..data.build import RawRequest
        from ..data.readers import CustomOptions

        names = _names(landmarks)
        options = CustomOptions(format, tuple(label_map or ()), annotations, patient_pattern, source, names)
        splits = _splits(split_seed, validation_patients, test_patients, test_only)
        return RawRequest("custom", raw, options, splits, protocol)

    return _build_raw(raw, request, _Place(output, overwrite, push_to_hub, public), workers, strict)


def _names(landmarks: str) -> tuple[str, ...]:
    # With names that occur twice, which are refused.
    return tuple(name.strip() for name in landmarks.split(","))


def _splits(seed: int, validation: str, test: str, test_only: bool) -> SplitOptions:
    from ..data.readers import SplitOptions

    return SplitOptions(seed, comma_separated(validation), comma_separated(test), test_only)


def _build_raw(
    raw: Path, request: Callable[[], RawRequest], place: _Place, workers: int, strict: bool
) -> int:
    """Builds a raw set; `request` is called when it is time to import what it needs."""
    place.check()
    announce(f"reading {raw}")
    from tqdm import tqdm

    from ..data.build import build_raw_set
    from ..data.readers import ProblemError
    from ..utils.hub_configs import dataset_card

    def left_out(problem: Problem) -> None:
        tqdm.write(f"left out: {problem}", file=sys.stderr)

    with one_line_errors(), _going_on():
        asked = request()
        try:
            result = build_raw_set(
                asked,
                place.output,
                dataset_card(asked.set_name),
                workers=workers,
                overwrite=place.overwrite,
                strict=strict,
                on_problem=left_out,
            )
        except ProblemError as error:
            raise RunError(str(error)) from error
    counts = ", ".join(f"{frames} {split}" for split, frames in result.frames.items())
    told = f"{counts}; {result.left_out} frames left out, {result.problems} problems in report.json"
    return place.tell(f"{'built' if result.built else _NOTHING_TO_DO}: {told}")


@contextmanager
def _going_on() -> Iterator[None]:
    """Says of an interrupted build how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("the same command goes on with the shards that are finished") from None
