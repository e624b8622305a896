"""Annotation formats: labelme JSON, CVAT XML and the contours of the P2ILF challenge."""

from .annotation import AnnotatedCurve, AnnotationError, FrameAnnotation, check_inside
from .cvat import parse_cvat
from .labelme import parse_labelme
from .labels import DEFAULT_LABELS, L3D_LABELS, LabelMap
from .limits import read_annotation_bytes
from .p2ilf import parse_p2ilf_json, parse_p2ilf_xml

__all__ = [
    "DEFAULT_LABELS",
    "L3D_LABELS",
    "AnnotatedCurve",
    "AnnotationError",
    "FrameAnnotation",
    "LabelMap",
    "check_inside",
    "parse_cvat",
    "parse_labelme",
    "parse_p2ilf_json",
    "parse_p2ilf_xml",
    "read_annotation_bytes",
]
