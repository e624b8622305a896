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
    for element in root.iter():
        for text in (element.text or "", *element.attrib.values()):
            if _UNWRITABLE.search(text):
                raise ValueError(f"{element.tag}: XML cannot hold {shown(text)}: rename it")
    indent(root, space)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'
