"""Annotation formats: labelme JSON, CVAT XML and the contours of the P2ILF challenge; SVG to write only."""

from .annotation import (
    DEFAULT_LABELS,
    L3D_LABELS,
    AnnotatedCurve,
    AnnotationError,
    FrameAnnotation,
    LabelMap,
    check_inside,
    read_annotation_bytes,
)
from .annotation_files import (
    READ_FORMATS,
    WRITE_FORMATS,
    check_names_fit,
    format_svg,
    read_landmarks,
    write_landmarks,
)
from .cvat import format_cvat, parse_cvat
from .labelme import format_labelme, parse_labelme
from .p2ilf import format_p2ilf_json, format_p2ilf_xml, parse_p2ilf_json, parse_p2ilf_xml

__all__ = [
    "DEFAULT_LABELS",
    "L3D_LABELS",
    "READ_FORMATS",
    "WRITE_FORMATS",
    "AnnotatedCurve",
    "AnnotationError",
    "FrameAnnotation",
    "LabelMap",
    "check_inside",
    "check_names_fit",
    "format_cvat",
    "format_labelme",
    "format_p2ilf_json",
    "format_p2ilf_xml",
    "format_svg",
    "parse_cvat",
    "parse_labelme",
    "parse_p2ilf_json",
    "parse_p2ilf_xml",
    "read_annotation_bytes",
    "read_landmarks",
    "write_landmarks",
]
