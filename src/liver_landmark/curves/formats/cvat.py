"""CVAT's XML, "CVAT for images 1.1": one file for many frames, curves as `polyline` elements.

`<annotations><version>1.1</version><meta>…</meta><image id name width height><polyline label source
occluded points="x,y;x,y;…" z_order/>…</image>…</annotations>`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from xml.etree.ElementTree import Element, SubElement

from ...model.landmarks_liver_landmark import DEFAULT_LANDMARKS, LandmarkTable
from .annotation import (
    DEFAULT_LABELS,
    AnnotatedCurve,
    AnnotationError,
    FieldError,
    FrameAnnotation,
    LabelMap,
    check_describes_frame,
    count,
    file_name_fault,
    parse_xml,
    points_fault,
    shown,
    text_number,
    xml_document,
    xml_fragment,
)


def parse_cvat(
    data: bytes, file: str | PathLike[str], labels: LabelMap = DEFAULT_LABELS
) -> list[FrameAnnotation | AnnotationError]:
    """Reads "CVAT for images 1.1"; each polyline is one open polyline, in the file's order.

    Shapes whose label the map ignores are left out whatever they are. An image without shapes is a frame
    without landmarks.

    Args:
        data: The file's bytes.
        file: The file, for messages.
        labels: Which label means which landmark.

    Returns:
        One entry for each `<image>`, in order: what it says, or what is wrong with it (`file_name` is then
        the image's name, if it has one). Two images of one name are both wrong.

    Raises:
        AnnotationError: no such XML at all.
    """
    root = parse_xml(data, file)
    if root.tag != "annotations":
        raise AnnotationError(file, f"root element is {shown(root.tag)}, expected CVAT's annotations")
    if root.find("track") is not None:
        raise AnnotationError(file, 'holds tracks (CVAT for video): export it as "CVAT for images 1.1"')
    images = root.findall("image")
    names = Counter(image.get("name") for image in images)
    results: list[FrameAnnotation | AnnotationError] = []
    for index, image in enumerate(images):
        name = image.get("name")
        try:
            if name is None:
                raise FieldError("name is missing")
            if fault := file_name_fault(name):
                raise FieldError(f"name {fault}")
            if names[name] > 1:
                raise FieldError(f"stands {names[name]} times in this file: which is meant?")
            results.append(_frame(image, name, file, labels))
        except FieldError as error:
            which = f"image[{index}]" if name is None else f"image {shown(name)}"
            results.append(AnnotationError(file, f"{which}: {error}", name))
    return results


def _frame(image: Element, name: str, file: str | PathLike[str], labels: LabelMap) -> FrameAnnotation:
    width, height = _size(image, "width"), _size(image, "height")
    landmarks: list[AnnotatedCurve] = []
    tolerated = []
    for index, shape in enumerate(image):
        field = f"shape {index} ({shown(shape.tag)})"
        label = shape.get("label")
        if label is None:
            raise FieldError(f"{field}: label is missing")
        try:
            category = labels.category(label, file)
        except AnnotationError as error:
            raise FieldError(f"{field}: {error.reason}") from None
        if category is None:
            continue
        if shape.tag != "polyline":
            raise FieldError(f"{field}: draw a polyline, the landmarks are open curves")
        try:
            landmarks.append({"category": category, "points": _points(shape)})
        except FieldError as error:
            raise FieldError(f"{field}: points {error}") from None
        if labels.is_tolerated(label):
            tolerated.append(label)
    return FrameAnnotation(name, width, height, landmarks, tuple(tolerated), labels.table)


def _size(image: Element, key: str) -> int:
    try:
        return count(text_number(image.get(key, "")), least=1)
    except FieldError as error:
        raise FieldError(f"{key} {error}") from None


def _points(shape: Element) -> list[tuple[float, float]]:
    points = []
    for pair in shape.get("points", "").split(";"):
        x, comma, y = pair.partition(",")
        if not comma:
            raise FieldError(f"hold {shown(pair)}, expected x,y;x,y;…")
        points.append((text_number(x), text_number(y)))
    if fault := points_fault(points):
        raise FieldError(f"are no curve: {fault}")
    return points


def format_cvat(annotations: Sequence[FrameAnnotation]) -> str:
    """Frames as one "CVAT for images 1.1" document, which CVAT uploads into a task with these pictures.

    Coordinates have two decimals, as CVAT's own. `z_order` counts a frame's curves up, so that they stay in
    order.

    Raises:
        ValueError: a frame without file name, width or height, two frames of one name, a name that XML cannot
            hold, a curve that has no two different points at two decimals, or frames of different landmarks.
    """
    table = annotations[0].table if annotations else DEFAULT_LANDMARKS
    return "".join(iterate_cvat(annotations, len(annotations), table))


def iterate_cvat(
    annotations: Iterable[FrameAnnotation], count: int, table: LandmarkTable = DEFAULT_LANDMARKS
) -> Iterator[str]:
    """`format_cvat`'s document piece by piece, for more frames than are to be in memory.

    Args:
        annotations: The frames, with the landmarks of `table`.
        count: How many there are.
        table: The labels of the task.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "size").text = str(count)
    SubElement(task, "mode").text = "annotation"
    labels = SubElement(task, "labels")
    for landmark in table.landmarks:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = landmark.name
        SubElement(label, "type").text = "polyline"
        SubElement(label, "attributes")
    head, end, _ = xml_document(root).rpartition("</annotations>")
    yield head
    names: set[str] = set()
    for index, annotation in enumerate(annotations):
        if annotation.table.names != table.names:
            raise ValueError(
                f"{shown(annotation.file_name)}: its landmarks are {', '.join(annotation.table.names)}, "
                f"those of the file {', '.join(table.names)}: write one file for each"
            )
        yield xml_fragment(_image(index, annotation, names), level=1)
    yield end + "\n"


def _image(index: int, annotation: FrameAnnotation, names: set[str]) -> Element:
    name, width, height = check_describes_frame(annotation, "CVAT")
    if name in names:
        raise ValueError(f"two frames are called {shown(name)}: CVAT tells frames apart by name")
    names.add(name)
    image = Element("image", {"id": str(index), "name": name, "width": str(width), "height": str(height)})
    for place, curve in enumerate(annotation.landmarks):
        pairs = [(f"{x:.2f}", f"{y:.2f}") for x, y in curve["points"]]
        if fault := points_fault([(float(x), float(y)) for x, y in pairs]):
            raise ValueError(f"{shown(name)}: landmarks[{place}] is no curve at two decimals: {fault}")
        shape = {
            "label": curve["category"],
            "source": "manual",
            "occluded": "0",
            "points": ";".join(f"{x},{y}" for x, y in pairs),
            "z_order": str(place),
        }
        SubElement(image, "polyline", shape)
    return image
