"""A user's own frames with one XML of the format "CVAT for images 1.1" for all of them."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

from .pictures import picture, write_jpeg
from .truth import Landmarks, RawSet, TrueFrame, curves

HEADER = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>7</id>
      <name>liver</name>
      <size>{count}</size>
      <mode>annotation</mode>
      <labels>
        <label><name>ridge</name><color>#ff0000</color><type>polyline</type><attributes></attributes></label>
        <label><name>silhouette</name><type>polyline</type><attributes></attributes></label>
        <label><name>ligament</name><type>polyline</type><attributes></attributes></label>
      </labels>
    </task>
    <dumped>2025-01-31 10:00:00.000000+00:00</dumped>
  </meta>
"""


def shape_xml(label: str, points: list[tuple[float, float]], kind: str = "polyline") -> str:
    """One shape; CVAT writes two decimals."""
    text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return (
        f'    <{kind} label={quoteattr(label)} source="manual" occluded="0" points="{text}" z_order="0">\n'
        f"    </{kind}>\n"
    )


def image_xml(place: int, name: str, width: int, height: int, landmarks: Landmarks) -> str:
    """One image's element."""
    shapes = "".join(shape_xml(landmark["category"], landmark["points"]) for landmark in landmarks)
    return (
        f'  <image id="{place}" name={quoteattr(name)} width="{width}" height="{height}">\n'
        f"{shapes}  </image>\n"
    )


def annotations_xml(raw: RawSet) -> str:
    """The XML of all frames, by what `raw.frames` says of them now."""
    images = (
        image_xml(place, raw.relative(frame.picture), frame.width, frame.height, frame.landmarks)
        for place, frame in enumerate(raw.frames)
    )
    return HEADER.format(count=len(raw.frames)) + "".join(images) + "</annotations>\n"


def write_cvat(
    root: Path,
    *,
    patients: tuple[str, ...] = ("anna", "ben", "carl", "dora"),
    frames_per_patient: int = 2,
    file_name: str = "annotations.xml",
) -> RawSet:
    """A set without a fault: `root/<patient>/<frame>.jpg`, and one XML in `root` that names them all."""
    annotation, (width, height) = root / file_name, (64, 36)
    frames = []
    for place, patient in enumerate(patients):
        for number in range(frames_per_patient):
            seed = 12000 + 50 * place + number
            stem = f"{patient}_{number}"
            picture_file = root / patient / f"{stem}.jpg"
            write_jpeg(picture_file, picture(seed, width, height))
            landmarks = curves(seed, width, height)
            frames.append(TrueFrame(stem, patient, None, picture_file, annotation, width, height, landmarks))
    raw = RawSet(root, frames)
    annotation.write_text(annotations_xml(raw))
    return raw


def rewrite(raw: RawSet, old: str, new: str, count: int = 1) -> None:
    """Replaces text in the XML; a ValueError where it is not there, so that no test changes nothing."""
    file = raw.frames[0].annotation
    text = file.read_text()
    if old not in text:
        raise ValueError(f"{old!r} is not in {file}")
    file.write_text(text.replace(old, new, count))
