"""Mutations of CVAT's and P2ILF's XML, and what each leaves of the polylines.

Most are a row of a table: a pattern, and what is put in place of what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from .cvat import annotations_xml, image_xml, shape_xml
from .fuzzing import Operators, Rng, choose, constant, curves_changed, other_cases, spelling, truncated
from .json_mutations import WRONG_LABELS
from .p2ilf import contours_xml
from .truth import Landmarks, RawSet, TrueFrame

ENTITY_BOMB = (
    "<!DOCTYPE bomb [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{k} '{f'&a{k - 1};' * 10}'>" for k in range(1, 12))
    + "]>"
)
WIDE_BOMB = f"<!DOCTYPE bomb [<!ENTITY a11 '{'ha' * 100_000}'>]>"
EXTERNAL = '<!DOCTYPE out [<!ENTITY a11 SYSTEM "file:///etc/hostname">]>'
OUTSIDE_DTD = '<!DOCTYPE out [<!ENTITY % more SYSTEM "file:///etc/hostname"> %more;]>'


@dataclass(frozen=True)
class XmlSource:
    """The text of a file, and the frame that is mutated in it.

    Attributes:
        text: Well-formed, with an XML declaration and without comments; ASCII.
        root: The name of the element at the top.
        landmarks: What the file says of the frame.
        size: The frame's (width, height) in px.
        write: The file's text with other landmarks of the frame.
        part: What of the text is about the frame.
    """

    text: str
    root: str
    landmarks: Landmarks
    size: tuple[int, int]
    write: Callable[[Landmarks], str]
    part: str

    @property
    def body(self) -> str:
        """The file without its declaration."""
        return self.text[self.text.index("?>") + 2 :].lstrip()

    @property
    def inside(self) -> str:
        """From behind the root's opening tag to before its closing one."""
        return self.body[len(self.root) + 2 : self.body.rindex("</")]


Operator = Callable[[Rng, XmlSource], bytes]
# A template as `re.Match.expand` takes it, or what makes the text of a match.
New = str | Callable[[Rng, re.Match[str], XmlSource], str]
TEXT, PART, INSIDE = attrgetter("text"), attrgetter("part"), attrgetter("inside")


def _new_text(rng: Rng, found: re.Match[str], source: XmlSource, news: tuple[New, ...]) -> str:
    new = choose(rng, list(news))
    return new(rng, found, source) if callable(new) else found.expand(new)


def _one(pattern: str | list[str], *news: New, of: Callable[[XmlSource], str] = TEXT) -> Operator:
    """One place that a pattern, or one of several, finds is changed."""

    def operator(rng: Rng, source: XmlSource) -> bytes:
        text, chosen = of(source), pattern if isinstance(pattern, str) else choose(rng, pattern)
        found = choose(rng, list(re.finditer(chosen, text, re.DOTALL)))
        changed = text[: found.start()] + _new_text(rng, found, source, news) + text[found.end() :]
        # Lone surrogates stand for bytes that are no UTF-8.
        return source.text.replace(text, changed, 1).encode(errors="surrogateescape")

    return operator


def _each(pattern: str, *news: New, of: Callable[[XmlSource], str] = TEXT, share: float = 1.0) -> Operator:
    """A share of the places that a pattern finds are changed, each in a way of its own."""

    def operator(rng: Rng, source: XmlSource) -> bytes:
        text = of(source)
        changed = re.sub(
            pattern,
            lambda found: _new_text(rng, found, source, news) if rng.random() < share else found[0],
            text,
            flags=re.DOTALL,
        )
        return source.text.replace(text, changed, 1).encode()

    return operator


def _under(*heads: str, encoding: str = "utf-8") -> Operator:
    """The file under another declaration."""
    return lambda rng, source: f"{choose(rng, list(heads))}\n{source.body}".encode(encoding)


def _with_entity(*doctypes: str) -> Operator:
    """A document type that declares entities, used in one of the texts or not at all."""

    def operator(rng: Rng, source: XmlSource) -> bytes:
        used = _one(r"</\w+>", r"&a11;\g<0>", r"\g<0>")(rng, source).decode()
        return used.replace("?>", f"?>{choose(rng, list(doctypes))}", 1).encode()

    return operator


def _recoded(rng: Rng, source: XmlSource) -> bytes:
    encoding = choose(rng, ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    heads = ('<?xml version="1.0"?>', f'<?xml version="1.0" encoding="{encoding[:6]}"?>')
    return _under(*heads, encoding=encoding)(rng, source)


def _another_root(rng: Rng, source: XmlSource) -> bytes:
    other = choose(rng, ["svg", "Contours", source.root + "s", "annotation"])
    text = source.text.replace(f"<{source.root}", f"<{other}").replace(f"</{source.root}>", f"</{other}>")
    return choose(rng, [text, f"<all>{source.body}</all>", f"<{other}/>"]).encode()


def _endless(rng: Rng, source: XmlSource) -> bytes:
    token = choose(rng, [b"<", b"<a>", b"<a b='", b"&a;", f"<{source.root}>".encode()])
    return token * (20_000_000 // len(token))


def _extra_attribute(rng: Rng, found: re.Match[str], source: XmlSource) -> str:
    name, quote = choose(rng, ["note", "lang", "xml:space", "data-x", "größe"]), choose(rng, ["'", '"'])
    return f"{found[1]} {name}={quote}{choose(rng, ['', '5', 'a b', '&lt;x&gt;', '肝'])}{quote}{found[2]}"


# Behind a tag that only white space follows before the next one: there, no text that means something is met.
BETWEEN = r"(?<=>)(?=\s*<)"
_ENCODINGS = ("utf-16", "UTF-32", "klingon", "", "utf-7", "big5", "idna", "rot13", "base64", "zip")
XML_OPERATORS = Operators[XmlSource](
    same={
        "as it was": lambda rng, source: source.text.encode(),
        "white space": _each(BETWEEN, " ", "\n", "\t\t", "\r\n", "\n\n    ", of=INSIDE, share=0.3),
        "white space in tags": _each(r"(?<=[\w\"'])>", " >", "\n>", share=0.7),
        "white space at the end": lambda rng, source: (
            source.text.rstrip().encode() + choose(rng, [b"", b"\n\n "])
        ),
        "comments": _each(
            BETWEEN,
            *("<!-- by hand -->", "<!---->", "<!-- <x>5, 6</x> -->", "<?note to=self?>", "<!-- é肝 -->"),
            of=INSIDE,
            share=0.3,
        ),
        "comment at the end": lambda rng, source: source.text.encode() + b"<!-- end -->",
        "extra elements": _each(
            BETWEEN,
            *(
                "<note/>",
                "<note>5, 6</note>",
                "<note lang='de'>Größe</note>",
                "<deep><er><x>5</x></er></deep>",
            ),
            of=INSIDE,
            share=0.15,
        ),
        "extra attributes": _each(r"(<\w[^>]*?)(/?>)", _extra_attribute, share=0.3),
        "byte order mark": lambda rng, source: source.text.encode("utf-8-sig"),
        "no declaration": lambda rng, source: source.body.encode(),
        "another declaration": _under('<?xml version="1.0"?>', "<?xml version='1.0' encoding='UTF-8' ?>"),
        "CRLF": lambda rng, source: source.text.replace("\n", "\r\n").encode(),
    },
    left_out={
        "truncated": lambda rng, source: truncated(rng, source.text),
        "bracket lost": _one("<", ""),
        "slash lost": _one(r"</(\w+>)", r"<\1"),
        "bracket twice": _one("<", "<<"),
        "tag lost or doubled": _one(r"<[^?!>]*[^/?!>]>", "", r"\g<0>\g<0>", "<other>", "</other>"),
        # Only one of the two tags of an element, so that they no longer match.
        "tag renamed": _one(r"(</\w+)>", r"\1x>"),
        "two roots": lambda rng, source: (
            source.text.rstrip() + choose(rng, [source.body, "<a/>", "text", "&amp;"])
        ).encode(),
        "another root": _another_root,
        "empty": constant(b"", b" ", b"\n\n", b"\xef\xbb\xbf", b'<?xml version="1.0"?>'),
        "no XML": constant(b"not xml", b'{"numOfContours": 0}', b"\x89PNG\r\n", bytes(range(256)), b"[]"),
        "null byte": _one(r"(?!^)(?=\S)", "\0"),
        "invalid UTF-8": _one(r"(?!^)(?=\S)", "\udcff", "\udc80", "\udcc0\udcaf", "\udced"),
        "control character": _one(r"(?!^)(?=\S)", "\x01"),
        "UTF-16": _recoded,
        "encoding that is not there": _under(*(f'<?xml version="1.0" encoding="{e}"?>' for e in _ENCODINGS)),
        "entity bomb": _with_entity(ENTITY_BOMB, WIDE_BOMB),
        "external entity": _with_entity(EXTERNAL, OUTSIDE_DTD),
        "unknown entity": _one(r"</\w+>", r"&nbsp;\g<0>"),
        "megabytes of brackets": _endless,
        "deep nesting": lambda rng, source: (
            f"<{source.root}>" * 100_000 + f"</{source.root}>" * 100_000
        ).encode(),
    },
    other={"other curves": curves_changed},
)


@dataclass(frozen=True)
class CvatSource(XmlSource):
    """The file of all frames, `part` being the element of the image that is mutated.

    Attributes:
        raw: What is true of all.
    """

    raw: RawSet


def cvat_source(raw: RawSet, place: int) -> CvatSource:
    """The file of a set, about to be mutated in one image."""
    frame, text = raw.frames[place], annotations_xml(raw)

    def image(landmarks: Landmarks) -> str:
        return image_xml(place, raw.relative(frame.picture), frame.width, frame.height, landmarks)

    part = image(frame.landmarks)
    if part not in text:
        raise ValueError("the image is not in the file as it should be")
    size = (frame.width, frame.height)
    return CvatSource(
        text, "annotations", frame.landmarks, size, lambda new: text.replace(part, image(new)), part, raw
    )


def _images_shuffled(rng: Rng, source: CvatSource) -> bytes:
    images = re.findall(r"  <image .*?</image>\n", source.text, re.DOTALL)
    head = source.text[: source.text.index(images[0])]
    return (head + "".join(rng.permutation(images).tolist()) + "</annotations>\n").encode()


def _attributes_shuffled(rng: Rng, found: re.Match[str], source: XmlSource) -> str:
    attributes = rng.permutation(re.findall(r'\w+="[^"]*"', found[2])).tolist()
    return f"<{found[1]} {' '.join(attributes)}>"


def _outside(rng: Rng, found: re.Match[str], source: XmlSource) -> str:
    (x, y), (width, height) = found.groups(), source.size
    pairs = [f"-3.00,{y}", f"{width + 3}.00,{y}", f"{x},-10.50", f"{x},{10 * height}", f"16000000,{y}"]
    return choose(rng, pairs)


def _respelled(rng: Rng, found: re.Match[str], source: XmlSource) -> str:
    return spelling(rng, float(found[0]))


def _in_another_case(rng: Rng, found: re.Match[str], source: XmlSource) -> str:
    return choose(rng, other_cases(found[0]))


NO_POINTS = [
    "",
    " ",
    "5",
    "5,5",
    "5,5;",
    ";",
    "5,5;6",
    "5,5;6,",
    "5,5;6,6,6",
    "5;5;6;6",
    "5 5;6 6",
    "5,5 6,6",
]
NO_POINTS += ["5,5;5,5", "9.5,4;9.5,4;9.50,4.0", "nan,5;6,6", "5,5;inf,6", "5,5;1e400,6", "5,5;0x6,6"]
NO_POINTS += ["5,5;1_0,6", "5,5;٦,6", "[[5,5],[6,6]]", "5,5;--6,6", "a,b;c,d", "5,5;1e30,6", "5,5;;9,9"]
NO_SIZES = ["", "0", "-64", "64.5", "many", "nan", "1e400", "1" * 5_000, "6_4", "64px", "٦٤"]
OTHER_SHAPES = ["polygon", "points", "box", "ellipse", "mask", "cuboid", "skeleton", "tag"]
LABEL = r'(?<=polyline label=")\w+'
# After these nothing of the file can be read.
WHOLE_FILE = Operators[CvatSource](
    same={},
    left_out=XML_OPERATORS.left_out
    | {
        "tracks": _one(
            "</annotations>",
            r'<track id="0" label="ridge"><polyline frame="0" points="1,1;9,9"/></track>\g<0>',
        )
    },
    other={},
)
CVAT_OPERATORS = (
    # Unknown elements inside of an image could be shapes: those are not let pass.
    Operators[CvatSource](
        {name: operator for name, operator in XML_OPERATORS.same.items() if name != "extra elements"},
        {},
        XML_OPERATORS.other,
    )
    | WHOLE_FILE
    | Operators[CvatSource](
        same={
            "order of attributes": _each(r"<(image|polyline) ([^>]*)>", _attributes_shuffled),
            "order of images": _images_shuffled,
            "no description": _one(r"  <meta>.*?</meta>\n", ""),
            "no version": _one("  <version>1.1</version>\n", ""),
            "fields that say nothing": _each(
                r' (occluded|z_order|source|id)="\w+"', r' \1="1"', r' \1="7"', share=0.5
            ),
            "fields that say nothing lost": _each(r' (z_order|source)="\w+"', "", share=0.5),
            # What CVAT writes inside of a shape whose label has attributes; one without closes itself.
            "attributes of a shape": _each(
                r"(<polyline [^>]*)>\s*</polyline>",
                *(r"\1/>", r"\1></polyline>", r'\1><attribute name="sure">yes</attribute></polyline>'),
                r'\1><attribute name="x">5</attribute>' + "\n</polyline>",
            ),
            "numbers spelled otherwise": _each(r"(?<![\w.])[\d.]+(?=,\d)|(?<=\d,)[\d.]+", _respelled),
            "label's case": _each(LABEL, _in_another_case),
            # A task's labels and names are no annotations.
            "more in the description": _one(
                "<task>",
                *(r"\g<0><owner><username>me</username></owner>", r"\g<0><image>5</image>"),
                r'\g<0><polyline points="1,1"/>',
            ),
        },
        left_out={
            "unknown label": _one(LABEL, *WRONG_LABELS, "rigde", of=PART),
            "label lost": _one(r'(?<=polyline) label="\w+"', "", of=PART),
            "points lost": _one(r' points="[^"]*"', "", of=PART),
            "no points": _one(r'(?<=points=")[^"]*', *NO_POINTS, of=PART),
            "another shape": _one(
                "(?=    <polyline|  </image>)",
                *(shape_xml("ridge", [(5.0, 5.0), (9.0, 9.0)], kind) for kind in OTHER_SHAPES),
                of=PART,
            ),
            "outside": _one(r"([\d.]+),([\d.]+)(?=[;\"])", _outside, of=PART),
            "no size": _one(r'(?<=width=")\d+|(?<=height=")\d+', *NO_SIZES, of=PART),
            "size lost": _one(r' (width|height)="\d+"', "", of=PART),
            "another size": _one(
                r'width="(\d+)" height="(\d+)"',
                *(r'width="\2" height="\1"', r'width="\g<1>0" height="\2"', r'width="\1" height="1\2"'),
                of=PART,
            ),
            "name lost": _one(r' name="[^"]*"', "", of=PART),
            "another name": _one(
                '(?<= name=")[^"]*', *("", "nobody/nothing.jpg", "../../secret.jpg", "/etc/hostname"), of=PART
            ),
            "twice in the file": _one(".+", r"\g<0>\g<0>", of=PART),
        },
        other={},
    )
)


def p2ilf_xml_source(frame: TrueFrame) -> XmlSource:
    """The frame's contours as the challenge's XML."""
    text = contours_xml(frame.landmarks)
    return XmlSource(text, "contours", frame.landmarks, (frame.width, frame.height), contours_xml, text)


def _far(rng: Rng, found: re.Match[str], source: XmlSource) -> str:
    size = max(source.size)
    return choose(rng, ["-3", "-10.5", "-1000", str(size + 3), str(10 * size), "16000000"])


def _off(rng: Rng, found: re.Match[str], source: XmlSource) -> str:
    count = int(found[0])
    values = [count + 1, count - 1, 0, -count, count + 0.5, "", "many", "nan", "1e400", f"{count} {count}"]
    return str(choose(rng, values))


def _short_curve(rng: Rng, found: re.Match[str], source: XmlSource) -> str:
    count = choose(rng, [0, 1, 2, 4])
    numbers = ", ".join(["9"] * count)
    return f"<imagePoints><numOfPoints>{count}</numOfPoints><x>{numbers}</x><y>{numbers}</y></imagePoints>"


def _marked_up(rng: Rng, found: re.Match[str], source: XmlSource) -> str:
    """Character references, CDATA and comments inside of a text."""
    text, first, rest = found[0], found[0][0], found[0][1:]
    forms = [f"<![CDATA[{text}]]>", f"&#{ord(first)};{rest}", f"&#x{ord(first):x};{rest}"]
    forms += [f"{first}<!-- the first -->{rest}", f"{first}<![CDATA[{rest}]]>", f"{first}<?pi?>{rest}"]
    return choose(rng, forms)


NO_NUMBERS = ["nan", "NaN", "inf", "-Infinity", "1e400", "0x10", "1_0", "٥", "--5", "5.5.5", "5px", "True"]
NO_NUMBERS += ["", "½", "5 6", "5;6", "5, 6", "1e30", "-20000000", "None", "1" * 5_000, "5e", "e5", "."]
NUMBER = r"(?<=[ >])[\d.]+(?=, |</[xy]>)"
POINTS = "<imagePoints>.*?</imagePoints>"
ELEMENTS = ("numOfContours", "contourType", "x", "y", "imagePoints", "contour")
P2ILF_XML_OPERATORS = XML_OPERATORS | Operators[XmlSource](
    same={
        "separators": _each(", ", ",", " , ", ",\n\t\t\t", ",\t"),
        "numbers spelled otherwise": _each(NUMBER, _respelled),
        "mark-up in a text": _one(
            [f"(?<=<{name}>)[^<]+(?=<)" for name in ("x", "y", "contourType", "numOfContours")], _marked_up
        ),
        "other model points": _each(
            "<modelPoints>.*?</modelPoints>",
            *("", "<modelPoints/>", "<modelPoints>none</modelPoints>", "<modelPoints><x>1</x></modelPoints>"),
            "<modelPoints><numOfPoints>99</numOfPoints><vertices>1</vertices></modelPoints>",
        ),
        "type's case": _one(r"(?<=<contourType>)\w+", _in_another_case),
    },
    left_out={
        "no number": _one(NUMBER, *NO_NUMBERS),
        "outside": _one(NUMBER, _far),
        # modelPoints has a numOfPoints of its own, which says nothing here.
        "wrong count": _one(
            [r"(?<=<numOfContours>)\d+", r"(?<=<imagePoints>\n\t\t\t<numOfPoints>)\d+"], _off
        ),
        "x longer than y": _one(r", [\d.]+(?=</[xy]>)", "", r"\g<0>\g<0>"),
        # The same number of x and y is missing, so that only the count shows it.
        "points lost": _one(POINTS, lambda rng, found, _: re.sub(r", [\d.]+(?=</[xy]>)", "", found[0])),
        "element lost or doubled": _one([f"<{name}>.*?</{name}>" for name in ELEMENTS], "", r"\g<0>\g<0>"),
        "fewer than two points": _one(POINTS, _short_curve),
        "unknown type": _one(r"(?<=<contourType>)\w+", *WRONG_LABELS, "Rigde", "Ridge, Ridge"),
    },
    other={},
)
