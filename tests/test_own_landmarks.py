"""Landmarks of one's own from raw frames to results, and names that stay right whatever their order."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from liver_landmark import LiverLandmarkForSemanticSegmentation
from liver_landmark.cli import main
from liver_landmark.curves import rasterize_landmarks, trace_polylines
from liver_landmark.curves.formats import FrameAnnotation, write_landmarks
from liver_landmark.curves.rasterize import PROTOCOLS
from liver_landmark.data.augmentation import Augmentation, AugmentationConfig
from liver_landmark.data.build import RawRequest, build_raw_set
from liver_landmark.data.check import SetCheck
from liver_landmark.data.export import export_set
from liver_landmark.data.loading import load_landmark_dataset
from liver_landmark.data.readers import CustomOptions
from liver_landmark.data.schema import landmark_features
from liver_landmark.data.statistics import split_statistics
from liver_landmark.evaluation import evaluate_model
from liver_landmark.evaluation.calibration import collect_presence, fit_calibration
from liver_landmark.evaluation.report import MaskStore, format_table, write_report
from liver_landmark.inference import LandmarkPredictor, PredictionOptions, collect_inputs, predict_files
from liver_landmark.inference.overlay import draw_overlay
from liver_landmark.model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from liver_landmark.training.models import build_model
from liver_landmark.training.recipe import ModelConfig, parse_recipe
from liver_landmark.training.training_frames import TrainingFrames
from raw_sets.labelme import labelme_json
from tiny_datasets import tiny_processor
from tiny_models import tiny_model
from training_runs import recipe_arguments, run, write_architecture

FOUR = LandmarkTable.from_names(("ridge", "silhouette", "ligament", "gallbladder"))
OTHER_ORDER = LandmarkTable.from_names(("gallbladder", "ligament", "ridge", "silhouette"))
WIDTH, HEIGHT = 128, 96
CARD = (Path(__file__).parents[1] / "hub_configs/datasets/custom/README.md").read_text(encoding="utf-8")


def polylines(seed: int) -> list[dict]:
    """A bent line for each landmark, apart from each other."""
    heights = np.random.default_rng(seed).uniform(-2, 2, (4, 3)) + 12 + 24 * np.arange(4)[:, None]
    return [
        {"category": name, "points": [(10.0, y[0]), (60.0, y[1]), (118.0, y[2])]}
        for name, y in zip(FOUR.names, heights.tolist(), strict=True)
    ]


def picture(seed: int) -> np.ndarray:
    """A gray frame with the landmarks in their colors."""
    mask = rasterize_landmarks(polylines(seed), WIDTH, HEIGHT, PROTOCOLS["synthetic"], names=FOUR.names)
    return np.where(mask[..., None] > 0, FOUR.palette[mask], np.uint8(90 + seed))


class SeesFour(torch.nn.Module):
    """Knows the four landmarks by their colors; its channels lie as its table says."""

    def __init__(self, table: LandmarkTable) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.config = SimpleNamespace(presence_calibration=None, landmark_table=table)
        # The colors of the frames, whatever colors the table has.
        self.colors = [FOUR.colors[name] for name in table.names]

    @property
    def device(self) -> torch.device:
        return self.gain.device

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        processor = tiny_processor()
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (processor.image_mean, processor.image_std))
        rgb = pixel_values * std + mean
        planes = [torch.full_like(rgb[:, 0], 0.3)]
        for color in self.colors:
            planes.append(1 - 2 * (rgb - torch.tensor(color).view(1, 3, 1, 1) / 255).norm(dim=1))
        return SimpleNamespace(logits=5 * self.gain * torch.stack(planes, 1))


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """`<patient>/<frame>.png` with labelme's JSON beside it, with four kinds of curves."""
    root = tmp_path_factory.mktemp("raw")
    for number, patient in enumerate(("anna", "ben", "carl", "dora")):
        (root / patient).mkdir()
        for frame in range(2):
            seed, stem = 2 * number + frame, f"{patient}_{frame}"
            Image.fromarray(picture(seed)).save(root / patient / f"{stem}.png")
            content = labelme_json(polylines(seed), f"{stem}.png", WIDTH, HEIGHT)
            content["shapes"][3]["label"] = "Gallbladder"
            (root / patient / f"{stem}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def built(raw, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "own"
    command = f"data build custom {raw} --format labelme --output {folder} --landmarks {','.join(FOUR.names)}"
    splits = ["--validation-patients", "carl", "--test-patients", "dora"]
    assert main([*command.split(), *splits]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert (report["frames"], report["problems"]) == ({"train": 4, "validation": 2, "test": 2}, [])
    return folder


@pytest.fixture(scope="module")
def test_split(built) -> datasets.Dataset:
    return load_landmark_dataset(built, "test")


@pytest.fixture(scope="module")
def trained(built, tmp_path_factory) -> Path:
    """`best/` of a short run from random weights."""
    folder = tmp_path_factory.mktemp("run")
    architecture = write_architecture(folder / "architecture")
    fields = {"model.labels": list(FOUR.names), "budget.steps": 2, "validation.every_steps": 2}
    run(recipe_arguments(built, architecture, folder / "run", **fields))
    return folder / "run" / "best"


def test_a_set_has_the_names_that_were_asked_for(built, test_split, tmp_path):
    assert test_split.features["landmarks"].feature["category"].names == list(FOUR.names)
    for row in test_split:
        drawn = rasterize_landmarks(row["landmarks"], WIDTH, HEIGHT, PROTOCOLS["synthetic"], names=FOUR.names)
        np.testing.assert_array_equal(np.asarray(row["label"]), drawn)
        assert set(np.unique(drawn)) == {0, 1, 2, 3, 4}
    assert list(SetCheck(built).problems()) == []
    card = (built / "README.md").read_text()
    assert "`gallbladder`" in card
    assert "4 gallbladder" in card
    assert "| gallbladder | 8 | 100.0% |" in card
    assert split_statistics(test_split).summary["frames_with"]["gallbladder"] == 2
    assert export_set({"test": test_split}, tmp_path / "svg", "svg") == 2
    text = next((tmp_path / "svg").rglob("*.svg")).read_text()
    assert 'class="gallbladder"' in text
    assert "#ffff00" in text
    with pytest.raises(ValueError, match=r"'gallbladder': P2ILF has ridge, silhouette, ligament only"):
        export_set({"test": test_split}, tmp_path / "p2ilf", "p2ilf-json")
    assert not (tmp_path / "p2ilf").exists()


def test_names_that_the_terminal_cannot_show_are_escaped(raw, tmp_path, monkeypatch):
    names = ["--landmarks", "ridge,silhouette,ligament,gallbladder,Gallengänge"]
    command = f"data build custom {raw} --format labelme --test-only --output {tmp_path / 'set'}"
    assert main([*command.split(), *names]) == 0
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", shown)
    assert main(["data", "stats", str(tmp_path / "set")]) == 0
    shown.flush()
    assert b"Galleng\\xe4nge: points" in shown.buffer.getvalue()


def test_names_that_cannot_be_and_labels_that_nobody_named_are_refused(raw, tmp_path):
    for names, reason in (((), "at least one landmark"), (("ridge", "ridge"), "'ridge' occurs twice")):
        with pytest.raises(ValueError, match=rf"--landmarks: .*{reason}"):
            CustomOptions("labelme", landmarks=names)
    request = RawRequest("custom", raw, CustomOptions("labelme"))
    with pytest.raises(ValueError, match=r"'Gallbladder' is unknown; known are 'ridge'"):
        build_raw_set(request, tmp_path / "set", CARD)
    options = CustomOptions("labelme", landmarks=("Edge", "tube"), label_map=("RIDGE=edge", "x=tube"))
    assert options.labels().category("ridge", "f") == "Edge"


def test_sets_of_other_landmarks_are_not_mixed(built, tmp_path):
    rows = load_landmark_dataset(built, "train")
    three = [row | {"frame_id": f"x{i}", "patient_id": "x", "landmarks": []} for i, row in enumerate(rows)]
    (tmp_path / "three").mkdir()
    datasets.Dataset.from_list(three, features=landmark_features()).to_parquet(
        tmp_path / "three" / "train-00000-of-00001.parquet"
    )
    with pytest.raises(ValueError, match=r"cannot be mixed: the landmarks of .* gallbladder, those of .*"):
        load_landmark_dataset([built, tmp_path / "three"])


def test_a_trained_model_names_and_finds_them_everywhere(trained, test_split, raw, tmp_path, capsys):
    config = json.loads((trained / "config.json").read_text())
    assert list(config["id2label"].values()) == ["background", *FOUR.names]
    assert config["label_colors"]["gallbladder"] == [255, 255, 0]
    predictor = LandmarkPredictor.from_pretrained(trained, device="cpu")
    assert predictor.landmarks == FOUR
    inputs = collect_inputs([str(raw / "dora")])
    options = PredictionOptions(curves=("labelme", "cvat", "svg"))
    predict_files(predictor, inputs, tmp_path / "out", options, model_name="own")
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    for row in rows:
        assert list(row["presence"]) == list(row["scores"]) == list(row["pixels"]) == list(FOUR.names)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert list(record["classes"].items()) == [(str(i), name) for i, name in FOUR.id2label.items()]
    labels = ElementTree.parse(tmp_path / "out" / "cvat.xml").findall("meta/task/labels/label/name")
    assert [label.text for label in labels] == list(FOUR.names)
    command = (
        f"predict {raw / 'dora'} --model {trained} --output {tmp_path / 'p'} --curves p2ilf --device cpu"
    )
    assert main(command.split()) == 2
    assert (
        "curves: p2ilf has ridge, silhouette, ligament only and cannot hold gallbladder"
        in capsys.readouterr().err.splitlines()[-1]
    )
    segment = pipeline("liver-landmark-segmentation", model=str(trained), device="cpu")
    [found] = segment([Image.fromarray(picture(7))])
    assert [(part["label"], part["id"]) for part in found] == [(n, i) for i, n in enumerate(FOUR.names, 1)]

    masks = MaskStore()
    evaluation = evaluate_model(
        predictor.model, predictor.processor, test_split, resolution=96, on_frame=masks
    )
    assert list(evaluation.metrics["per_class"]) == list(FOUR.names)
    assert "gallbladder" in format_table(evaluation.metrics)
    (tmp_path / "report").mkdir()
    write_report(tmp_path / "report", evaluation, test_split, masks, {})
    assert "dsc_gallbladder" in (tmp_path / "report" / "frames.csv").read_text()
    frames = collect_presence(predictor.model, predictor.processor, test_split)
    calibration, _ = fit_calibration(frames, {})
    predictor.model.config.presence_calibration = calibration
    predictor.model.save_pretrained(tmp_path / "calibrated")
    again = LiverLandmarkForSemanticSegmentation.from_pretrained(tmp_path / "calibrated")
    assert set(again.config.presence_calibration["classes"]) == set(FOUR.names)


def test_a_landmark_keeps_its_weights_by_name(trained, tmp_path):
    old = LiverLandmarkForSemanticSegmentation.from_pretrained(trained)
    names = ["ligament", "gallbladder", "artery"]
    torch.manual_seed(0)
    new, _ = build_model(ModelConfig(init=str(trained), labels=names))
    assert new.config.landmark_table.names == tuple(names)
    before, after = (m.decoder.classifier.weight.detach() for m in (old, new))
    assert torch.equal(after[[0, 1, 2]], before[[0, 3, 4]])
    assert not any(torch.equal(after[3], row) for row in before)
    for key, value in new.state_dict().items():
        if "classifier" not in key:
            assert torch.equal(value, old.state_dict()[key]), key
    assert new.config.landmark_table.colors["gallbladder"] == (255, 255, 0)
    new.save_pretrained(tmp_path)
    assert LiverLandmarkForSemanticSegmentation.from_pretrained(tmp_path).config.num_labels == 4


def test_a_run_goes_on_from_a_model_of_three(built, tmp_path):
    three = tmp_path / "three"
    tiny_model().save_pretrained(three)
    tiny_processor(128).save_pretrained(three)
    fields = {"model.architecture": None, "model.init": str(three), "budget.steps": 1}
    arguments = recipe_arguments(built, three, tmp_path / "run", **fields)
    wanted = r"model\.labels: \[ridge, silhouette, ligament, gallbladder\]$"
    with pytest.raises(ValueError, match=wanted) as error:
        run(arguments)
    assert "\n" not in str(error.value)
    record = run([*arguments, "--model.labels", json.dumps(OTHER_ORDER.names)])
    assert record["step"] == 1
    config = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert list(config["id2label"].values()) == ["background", *OTHER_ORDER.names]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("model.labels", [], "model.labels: there must be at least one landmark"),
        ("model.labels", ["ridge", "ridge"], "model.labels: 'ridge' occurs twice"),
        ("model.labels", ["background", "ridge"], "leave the background out"),
        ("model.overrides", {"num_labels": 1}, "model.overrides.num_labels: set model.labels instead"),
    ],
)
def test_a_recipes_labels_that_cannot_be_are_refused_in_a_line(tmp_path, field, value, reason):
    with pytest.raises(ValueError, match=reason) as error:
        parse_recipe(recipe_arguments(tmp_path, tmp_path, tmp_path / "run", **{field: value}))
    assert "\n" not in str(error.value)


def test_a_model_without_landmarks_is_refused_in_a_line(tmp_path):
    folder = write_architecture(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "background"}}))
    with pytest.raises(ValueError, match="num_labels must be at least 2") as error:
        build_model(ModelConfig(architecture=str(folder)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("table", [OTHER_ORDER, LandmarkTable.from_names(("silhouette", "ridge"))])
@pytest.mark.parametrize("moved", [0.0, 1.0])
def test_training_targets_are_in_the_models_ids_by_name(built, table, moved):
    rows = load_landmark_dataset(built, "train")
    augmentation = Augmentation(AugmentationConfig(horizontal_flip=moved, vertical_flip=moved), 0)
    own, plain = TrainingFrames(rows, augmentation, table)[0, 1], TrainingFrames(rows, augmentation)[0, 1]
    np.testing.assert_array_equal(own.image, plain.image)
    for name in FOUR.names:
        expected = plain.mask == FOUR.label2id[name]
        assert expected.any()
        if name in table.names:
            np.testing.assert_array_equal(own.mask == table.label2id[name], expected)
    assert set(np.unique(own.mask)) == set(table.id2label)
    assert {line["category"] for line in own.landmarks} == set(table.names)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_landmarks_trains_and_predicts(built, count, tmp_path):
    names = ["gallbladder", "ridge", "silhouette", "ligament", "artery"][:count]
    rows = load_landmark_dataset(built, "train")
    if "artery" in names:
        with pytest.raises(ValueError, match=r"model\.labels: the dataset has no landmark 'artery'"):
            build_model(
                ModelConfig(architecture=str(write_architecture(tmp_path)), labels=names),
                LandmarkTable.from_names(rows.features["landmarks"].feature["category"].names),
            )
    model = tiny_model(id2label=dict(enumerate(["background", *names])))
    labels = torch.randint(0, count + 1, (1, 128, 128))
    loss = model(pixel_values=torch.randn(1, 3, 128, 128), labels=labels).loss
    loss.backward()
    assert torch.isfinite(loss)
    [prediction] = LandmarkPredictor(model, tiny_processor()).predict(picture(0))
    assert list(prediction.presence) == names
    assert prediction.mask.max() <= count
    assert prediction.probabilities().shape == (count + 1, HEIGHT, WIDTH)


# ----------------------------------------------------------------------------------------------------
# The same model with its channels in another order says the same, by name.


def by_name(curves: list) -> dict[str, list]:
    """Category -> its curves' points."""
    found: dict[str, list] = {}
    for curve in curves:
        found.setdefault(curve.category, []).append(np.asarray(curve.points).tolist())
    return found


def test_channels_in_another_order_give_the_same_results_by_name(test_split, raw, tmp_path):
    frame = np.asarray(test_split[0]["image"])
    predictors = [
        LandmarkPredictor(SeesFour(table).eval(), tiny_processor()) for table in (FOUR, OTHER_ORDER)
    ]
    first, second = (predictor.predict(frame)[0] for predictor in predictors)
    assert sorted(first.present) == sorted(second.present) == sorted(FOUR.names)
    assert first.scores == pytest.approx(second.scores)
    assert first.presence == pytest.approx(second.presence)
    assert first.pixel_counts == second.pixel_counts
    for name in FOUR.names:
        ids = FOUR.label2id[name], OTHER_ORDER.label2id[name]
        assert ids[0] != ids[1]
        np.testing.assert_array_equal(first.mask == ids[0], second.mask == ids[1])
        np.testing.assert_allclose(first.probability(name), second.probability(name), atol=1e-6)
    curves = [prediction.curves() for prediction in (first, second)]
    assert by_name(curves[0]) == by_name(curves[1])
    assert set(by_name(curves[0])) == set(FOUR.names)
    # The fourth color is that of its place among new names: both tables give it to the gallbladder.
    assert FOUR.colors == OTHER_ORDER.colors
    overlays = [
        draw_overlay(frame, p.mask, legend=False, curves=c, table=p.landmarks)
        for p, c in zip((first, second), curves, strict=True)
    ]
    np.testing.assert_array_equal(*overlays)
    # Drawn by the wrong table it would differ.
    assert (draw_overlay(frame, second.mask, legend=False, table=FOUR) != overlays[1]).any()

    scores = [
        evaluate_model(predictor.model, predictor.processor, test_split, resolution=96).metrics
        for predictor in predictors
    ]
    assert scores[0]["dsc"] == scores[1]["dsc"] > 0.6
    assert scores[0]["per_class"] == scores[1]["per_class"]
    assert min(values["dsc"] for values in scores[0]["per_class"].values()) > 0.6
    presence = [collect_presence(p.model, p.processor, test_split) for p in predictors]
    for column, name in enumerate(presence[0].names):
        other = presence[1].names.index(name)
        np.testing.assert_allclose(presence[0].features[:, column], presence[1].features[:, other], rtol=1e-5)

    exported = []
    for place, predictor in enumerate(predictors):
        options = PredictionOptions(curves=("labelme", "cvat", "svg"), legend=False)
        output = tmp_path / f"out{place}"
        predict_files(predictor, collect_inputs([str(raw / "dora")]), output, options, model_name="m")
        exported.append(exported_by_name(output))
    assert exported[0] == exported[1]
    assert len(exported[0]) == 3 * 2 * 4


def exported_by_name(output: Path) -> list[tuple]:
    """(file, name, color if there is one, points) of every curve in labelme's, CVAT's and SVG files."""
    found = []
    for path in sorted(output.rglob("*")):
        if path.name.endswith("labelme.json"):
            shapes = json.loads(path.read_text())["shapes"]
            found += [(path.name, shape["label"], None, str(shape["points"])) for shape in shapes]
        elif path.suffix in (".svg", ".xml"):
            for line in ElementTree.parse(path).iter():
                if line.tag.endswith("polyline"):
                    name = line.get("class") or line.get("label")
                    where = path.name + str(line.get("points"))
                    found.append((where, name, line.get("stroke"), line.get("points")))
    return sorted(found, key=str)


def test_a_permuted_head_is_the_same_model_by_name(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        # Clear differences between the classes: areas, not noise.
        model.decoder.classifier.weight.mul_(30)
    permuted = copy.deepcopy(model)
    order = (2, 3, 1)  # the new channel's old one
    with torch.no_grad():
        for new, old in enumerate((0, *order)):
            permuted.decoder.classifier.weight[new] = model.decoder.classifier.weight[old]
            permuted.decoder.classifier.bias[new] = model.decoder.classifier.bias[old]
    permuted.config.id2label = {0: "background"} | {
        new: DEFAULT_LANDMARKS.id2label[old] for new, old in enumerate(order, 1)
    }
    permuted.config.label2id = {name: number for number, name in permuted.config.id2label.items()}
    results = []
    for place, part in enumerate((model, permuted)):
        part.save_pretrained(tmp_path / str(place))
        tiny_processor().save_pretrained(tmp_path / str(place))
        segment = pipeline("liver-landmark-segmentation", model=str(tmp_path / str(place)), device="cpu")
        results.append({found["label"]: found for found in segment(Image.fromarray(picture(3)))})
    assert list(results[1]) == ["silhouette", "ligament", "ridge"]
    assert sum(found["present"] for found in results[0].values()) >= 2
    for name, found in results[0].items():
        other = results[1][name]
        assert found["present"] == other["present"]
        assert (found["score"], found["presence"]) == pytest.approx((other["score"], other["presence"]))
        assert found["mask"].tobytes() == other["mask"].tobytes()
        assert found["id"] != other["id"]


def test_curves_take_any_names(tmp_path):
    mask = rasterize_landmarks(polylines(1), WIDTH, HEIGHT, PROTOCOLS["synthetic"], names=OTHER_ORDER.names)
    traced = trace_polylines(mask, names=OTHER_ORDER.names)
    assert [curve.category for curve in traced] == list(OTHER_ORDER.names)
    with pytest.raises(ValueError, match="mask holds the id 4: expected 0 to 3"):
        trace_polylines(mask)
    annotations = [FrameAnnotation("a.png", WIDTH, HEIGHT, [], table=table) for table in (FOUR, OTHER_ORDER)]
    with pytest.raises(ValueError, match="write one file for each"):
        write_landmarks(tmp_path / "a.xml", annotations, "cvat")
