"""Writing XML: text that it can hold, one layout for every format."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, indent, tostring

from .annotation import shown

# XML 1.0 has no way to write the other characters, escaped or not.
_UNWRITABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_document(root: Element, space: str = "  ") -> str:
    """The document as text, indented by `space`, ending in a line break.

    Raises:
        ValueError: text that XML cannot hold, such as control characters.
    """
    _check(root)
    indent(root, space)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'


def xml_fragment(element: Element, level: int, space: str = "  ") -> str:
    """One element of a document as `xml_document` lays it out, `level` levels deep, with its own line break.

    Raises:
        ValueError: as `xml_document`.
    """
    _check(element)
    indent(element, space, level)
    return f"{space * level}{tostring(element, encoding='unicode').rstrip()}\n"


def _check(root: Element) -> None:
    for element in root.iter():
        for text in (element.text or "", *element.attrib.values()):
            if _UNWRITABLE.search(text):
                raise ValueError(f"{element.tag}: XML cannot hold {shown(text)}: rename it")
