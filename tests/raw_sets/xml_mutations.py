"""Mutations of CVAT's and P2ILF's XML, and what each leaves of the polylines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .cvat import annotations_xml, image_xml, shape_xml
from .fuzzing import Operators, Rng, choose, in_another_case, other_curves
from .json_mutations import WRONG_TYPES
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
    """The text of a file, and how to find the texts in it that mean something.

    Attributes:
        text: Well-formed, with an XML declaration and without comments; ASCII.
        root: The name of the element at the top.
    """

    text: str
    root: str


Operator = Callable[[Rng, XmlSource], bytes]


def body(source: XmlSource) -> str:
    """The file without its declaration."""
    return source.text[source.text.index("?>") + 2 :].lstrip()


def declared(source: XmlSource, declaration: str) -> str:
    """The file under another declaration."""
    return declaration + "\n" + body(source)


def tags(text: str, pattern: str = r"<[^?!>]+>") -> list[re.Match[str]]:
    """All tags, in order."""
    return list(re.finditer(pattern, text))


def replaced(text: str, found: re.Match[str], new: str) -> str:
    """The text with something else in place of a match."""
    return text[: found.start()] + new + text[found.end() :]


def between_elements(rng: Rng, source: XmlSource, insert: Callable[[], str], share: float = 0.3) -> str:
    """Puts text behind some of the tags inside of the root that only white space follows."""
    places = [m.end() for m in tags(source.text, r">(?=\s*<[^?])")]
    text = source.text
    first = source.text.index(f"<{source.root}")
    for place in reversed([place for place in places if first < place]):
        if rng.random() < share:
            text = text[:place] + insert() + text[place:]
    return text


def _truncated(rng: Rng, source: XmlSource) -> bytes:
    text = source.text.rstrip()
    return text[: int(rng.integers(1, len(text)))].encode()


def _character_lost(characters: str) -> Operator:
    def operator(rng: Rng, source: XmlSource) -> bytes:
        text = source.text
        places = [m.start() for m in re.finditer(f"[{re.escape(characters)}]", text)]
        place = choose(rng, places)
        return (text[:place] + text[place + 1 :]).encode()

    return operator


def _tag_lost(rng: Rng, source: XmlSource) -> bytes:
    found = choose(rng, tags(source.text, r"<[^?!>]*[^/?!>]>"))
    return replaced(source.text, found, choose(rng, ["", 2 * found[0], "<other>", "</other>"])).encode()


def _tag_renamed(rng: Rng, source: XmlSource) -> bytes:
    """Only one of the two tags of an element, so that they no longer match."""
    found = choose(rng, tags(source.text, r"</\w+>"))
    return replaced(source.text, found, f"{found[0][:-1]}x>").encode()


def _two_roots(rng: Rng, source: XmlSource) -> bytes:
    return (source.text.rstrip() + choose(rng, [body(source), "<a/>", "text", "&amp;"])).encode()


def _inserted(data: bytes) -> Operator:
    def operator(rng: Rng, source: XmlSource) -> bytes:
        whole = source.text.rstrip().encode()
        place = int(rng.integers(1, len(whole)))
        return whole[:place] + data + whole[place:]

    return operator


def _with_entity(*doctypes: str) -> Operator:
    """A document type that declares entities, used in one of the texts or not at all."""

    def operator(rng: Rng, source: XmlSource) -> bytes:
        text = declared(source, '<?xml version="1.0"?>' + choose(rng, list(doctypes)))
        if rng.integers(2):
            found = choose(rng, tags(text, r"</\w+>"))
            text = replaced(text, found, "&a11;" + found[0])
        return text.encode()

    return operator


def _constant(values: list[bytes]) -> Operator:
    return lambda rng, source: choose(rng, values)


def _wrong_encoding(rng: Rng, source: XmlSource) -> bytes:
    name = choose(rng, ["utf-16", "UTF-32", "klingon", "", "utf-7", "big5", "idna", "rot13", "base64", "zip"])
    return declared(source, f'<?xml version="1.0" encoding="{name}"?>').encode()


def _recoded(rng: Rng, source: XmlSource) -> bytes:
    encoding = choose(rng, ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    declaration = choose(rng, ['<?xml version="1.0"?>', f'<?xml version="1.0" encoding="{encoding[:6]}"?>'])
    return declared(source, declaration).encode(encoding)


def _another_root(rng: Rng, source: XmlSource) -> bytes:
    other = choose(rng, ["svg", "Contours", source.root + "s", "annotation"])
    text = source.text.replace(f"<{source.root}", f"<{other}").replace(f"</{source.root}>", f"</{other}>")
    return choose(rng, [text, f"<all>{body(source)}</all>", f"<{other}/>"]).encode()


def _endless(rng: Rng, source: XmlSource) -> bytes:
    token = choose(rng, [b"<", b"<a>", b"<a b='", b"&a;", f"<{source.root}>".encode()])
    return token * (20_000_000 // len(token))


def _deep(rng: Rng, source: XmlSource) -> bytes:
    return (f"<{source.root}>" * 100_000 + f"</{source.root}>" * 100_000).encode()


def _comments(rng: Rng, source: XmlSource) -> bytes:
    comments = ["<!-- by hand -->", "<!---->", "<!-- <x>5, 6</x> -->", "<?note to=self?>", "<!-- é肝 -->"]
    text = between_elements(rng, source, lambda: choose(rng, comments))
    return (text + choose(rng, ["", "<!-- end -->"])).encode()


def _spaced(rng: Rng, source: XmlSource) -> bytes:
    spaces = [" ", "\n", "\t\t", "\r\n", "\n\n    "]
    text = between_elements(rng, source, lambda: choose(rng, spaces))
    return re.sub(r"(?<=[\w\"'])>", lambda m: choose(rng, [">", " >", "\n>"]), text).encode()


def _extra_elements(rng: Rng, source: XmlSource) -> bytes:
    extras = [
        "<note/>",
        "<note>5, 6</note>",
        "<note lang='de'>Größe</note>",
        "<deep><er><x>5</x></er></deep>",
    ]
    # Not behind a closing root: there nothing may follow.
    end = source.text.rindex(f"</{source.root}>")
    inner = XmlSource(source.text[:end], source.root)
    places = f"<{source.root}>"
    text = between_elements(rng, inner, lambda: choose(rng, extras), share=0.15)
    return (text.replace(places, places + "<note/>", 1) + source.text[end:]).encode()


def _extra_attributes(rng: Rng, source: XmlSource) -> bytes:
    names = ["note", "lang", "xml:space", "data-x", "größe"]

    def add(found: re.Match[str]) -> str:
        if rng.integers(3):
            return found[0]
        name, quote = choose(rng, names), choose(rng, ["'", '"'])
        return f"{found[1]} {name}={quote}{choose(rng, ['', '5', 'a b', '&lt;x&gt;', '肝'])}{quote}{found[2]}"

    return re.sub(r"(<\w[^>]*?)(/?>)", add, source.text).encode()


XML_OPERATORS = Operators[XmlSource](
    same={
        "as it was": lambda rng, source: source.text.encode(),
        "white space": _spaced,
        "white space at the end": lambda rng, source: (
            source.text.rstrip().encode() + choose(rng, [b"", b"\n\n "])
        ),
        "comments": _comments,
        "extra elements": _extra_elements,
        "extra attributes": _extra_attributes,
        "byte order mark": lambda rng, source: b"\xef\xbb\xbf" + source.text.encode(),
        "no declaration": lambda rng, source: body(source).encode(),
        "another declaration": lambda rng, source: declared(
            source, choose(rng, ['<?xml version="1.0"?>', "<?xml version='1.0' encoding='UTF-8' ?>"])
        ).encode(),
        "CRLF": lambda rng, source: source.text.replace("\n", "\r\n").encode(),
    },
    left_out={
        "truncated": _truncated,
        "bracket lost": _character_lost("<"),
        "slash lost": lambda rng, source: replaced(
            source.text, (found := choose(rng, tags(source.text, r"</\w+>"))), "<" + found[0][2:]
        ).encode(),
        "bracket twice": lambda rng, source: replaced(
            source.text, choose(rng, tags(source.text, "<")), "<<"
        ).encode(),
        "tag lost or doubled": _tag_lost,
        "tag renamed": _tag_renamed,
        "two roots": _two_roots,
        "another root": _another_root,
        "empty": _constant([b"", b" ", b"\n\n", b"\xef\xbb\xbf", b'<?xml version="1.0"?>']),
        "no XML": _constant([b"not xml", b'{"numOfContours": 0}', b"\x89PNG\r\n", bytes(range(256)), b"[]"]),
        "null byte": _inserted(b"\x00"),
        "invalid UTF-8": lambda rng, source: _inserted(choose(rng, [b"\xff", b"\x80", b"\xc0\xaf", b"\xed"]))(
            rng, source
        ),
        "control character": _inserted(b"\x01"),
        "UTF-16": _recoded,
        "encoding that is not there": _wrong_encoding,
        "entity bomb": _with_entity(ENTITY_BOMB, WIDE_BOMB),
        "external entity": _with_entity(EXTERNAL, OUTSIDE_DTD),
        "unknown entity": lambda rng, source: replaced(
            source.text, (found := choose(rng, tags(source.text, r"</\w+>"))), "&nbsp;" + found[0]
        ).encode(),
        "megabytes of brackets": _endless,
        "deep nesting": _deep,
    },
    other={},
)
WRONG_LABELS = ["rigdee", "Falciform", "", "background", "tool", "ridge2", "rid ge", "rigde", "0"]
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


@dataclass(frozen=True)
class CvatSource(XmlSource):
    """The file of all frames, and the image in it whose frame is mutated.

    Attributes:
        raw: What is true of all.
        place: The image's place in the file.
    """

    raw: RawSet
    place: int

    @property
    def frame(self) -> TrueFrame:
        """The frame that is mutated."""
        return self.raw.frames[self.place]

    @property
    def image(self) -> str:
        """The image's element."""
        return self.image_of(self.frame.landmarks)

    def image_of(self, landmarks: Landmarks) -> str:
        """The image's element with other landmarks in it."""
        frame = self.frame
        return image_xml(self.place, self.raw.relative(frame.picture), frame.width, frame.height, landmarks)

    def with_image(self, image: str) -> bytes:
        """The file with another element in the image's place."""
        if self.image not in self.text:
            raise ValueError("the image is not in the file as it should be")
        return self.text.replace(self.image, image).encode()


def cvat_source(raw: RawSet, place: int) -> CvatSource:
    """The file of a set, about to be mutated in one image."""
    return CvatSource(annotations_xml(raw), "annotations", raw, place)


CvatOperator = Callable[[Rng, CvatSource], bytes]


def _in_image(pattern: str, change: Callable[[Rng, re.Match[str]], str]) -> CvatOperator:
    """An operator that changes one place in the image."""

    def operator(rng: Rng, source: CvatSource) -> bytes:
        image = source.image
        found = choose(rng, tags(image, pattern))
        return source.with_image(replaced(image, found, change(rng, found)))

    return operator


def _with_shape(xml: Callable[[Rng], str]) -> CvatOperator:
    """An operator that puts one more shape before or behind the image's."""

    def operator(rng: Rng, source: CvatSource) -> bytes:
        opening, shapes = source.image.split("\n", 1)
        place = shapes.rindex("  </image>") if rng.integers(2) else 0
        return source.with_image(f"{opening}\n{shapes[:place]}{xml(rng)}{shapes[place:]}")

    return operator


def _outside(rng: Rng, source: CvatSource) -> bytes:
    image, frame = source.image, source.frame
    found = choose(rng, tags(image, r"[\d.]+,[\d.]+(?=[;\"])"))
    x, y = found[0].split(",")
    pairs = [
        f"-3.00,{y}",
        f"{frame.width + 3}.00,{y}",
        f"{x},-10.50",
        f"{x},{10 * frame.height}",
        f"16000000,{y}",
    ]
    return source.with_image(replaced(image, found, choose(rng, pairs)))


def _sizes_swapped(rng: Rng, source: CvatSource) -> bytes:
    width, height = source.frame.width, source.frame.height
    old = f'width="{width}" height="{height}"'
    wrong = [(height, width), (2 * width, 2 * height), (width + 1, height), (width, height - 1)]
    width, height = choose(rng, wrong)
    return source.with_image(source.image.replace(old, f'width="{width}" height="{height}"'))


def _another_name(rng: Rng, source: CvatSource) -> bytes:
    name = f'name="{source.raw.relative(source.frame.picture)}"'
    names = ["", 'name=""', 'name="nobody/nothing.jpg"', 'name="../../secret.jpg"', 'name="/etc/hostname"']
    return source.with_image(source.image.replace(name, choose(rng, names)))


def _curves_changed(rng: Rng, source: CvatSource) -> tuple[bytes, Landmarks]:
    curves = other_curves(rng, source.frame.landmarks, (source.frame.width, source.frame.height))
    return source.with_image(source.image_of(curves)), curves


def _attributes_shuffled(rng: Rng, source: CvatSource) -> bytes:
    def shuffle(found: re.Match[str]) -> str:
        attributes = rng.permutation(re.findall(r'\w+="[^"]*"', found[2])).tolist()
        return f"<{found[1]} {' '.join(attributes)}>"

    return re.sub(r"<(image|polyline) ([^>]*)>", shuffle, source.text).encode()


def _images_shuffled(rng: Rng, source: CvatSource) -> bytes:
    images = [
        image_xml(place, source.raw.relative(frame.picture), frame.width, frame.height, frame.landmarks)
        for place, frame in enumerate(source.raw.frames)
    ]
    head = source.text[: source.text.index(images[0])]
    return (head + "".join(rng.permutation(images).tolist()) + "</annotations>\n").encode()


def _unused(rng: Rng, source: CvatSource) -> bytes:
    text = source.text
    if rng.integers(2):
        text = re.sub(r"  <meta>.*?</meta>\n", "", text, flags=re.DOTALL)
    if rng.integers(2):
        text = text.replace("  <version>1.1</version>\n", "")
    text = re.sub('occluded="0"', lambda _: f'occluded="{choose(rng, [0, 1])}"', text)
    text = re.sub(' z_order="0"', lambda _: choose(rng, ["", ' z_order="3"', ' z_order="-1"']), text)
    text = re.sub(' source="manual"', lambda _: choose(rng, ["", ' source="auto"', ' source="file"']), text)
    return re.sub(r'image id="\d+"', lambda _: f'image id="{choose(rng, [0, 7, 1000])}"', text).encode()


def _attribute_elements(rng: Rng, source: CvatSource) -> bytes:
    """What CVAT writes inside of a shape whose label has attributes; a shape without closes itself."""
    extra = ['<attribute name="sure">yes</attribute>', '<attribute name="x">5</attribute>\n', ""]
    return re.sub(
        r"(<polyline [^>]*)>\s*</polyline>",
        lambda m: f"{m[1]}/>" if rng.integers(2) else f"{m[1]}>{choose(rng, extra)}</polyline>",
        source.text,
    ).encode()


def _spelled(rng: Rng, source: CvatSource) -> bytes:
    def other(number: re.Match[str]) -> str:
        value = float(number[0])
        return choose(rng, [number[0], repr(value), f"{value:.6f}", f"{value:g}", f"{round(value * 100)}e-2"])

    return re.sub(r'points="[^"]*"', lambda found: re.sub(r"[\d.]+", other, found[0]), source.text).encode()


def _label_case(rng: Rng, source: CvatSource) -> bytes:
    return re.sub(
        r'polyline label="(\w+)"', lambda m: f'polyline label="{in_another_case(rng, m[1])}"', source.text
    ).encode()


def _in_meta(rng: Rng, source: CvatSource) -> bytes:
    """More in a task's description; its labels and names are no annotations."""
    extra = ["<owner><username>me</username></owner>", "<image>5</image>", '<polyline points="1,1"/>']
    return source.text.replace("<task>", "<task>" + choose(rng, extra)).encode()


# Unknown elements inside of an image could be shapes: those are not let pass.
_TEXT = Operators[CvatSource](
    {name: operator for name, operator in XML_OPERATORS.same.items() if name != "extra elements"}, {}, {}
)
# After these nothing of the file can be read.
WHOLE_FILE = Operators[CvatSource](
    same={},
    left_out=XML_OPERATORS.left_out
    | {
        "tracks": lambda rng, source: source.text.replace(
            "</annotations>",
            '<track id="0" label="ridge"><polyline frame="0" points="1,1;9,9"/></track></annotations>',
        ).encode()
    },
    other={},
)
CVAT_OPERATORS = (
    _TEXT
    | WHOLE_FILE
    | Operators[CvatSource](
        same={
            "order of attributes": _attributes_shuffled,
            "order of images": _images_shuffled,
            "fields that say nothing": _unused,
            "attributes of a shape": _attribute_elements,
            "numbers spelled otherwise": _spelled,
            "label's case": _label_case,
            "more in the description": _in_meta,
        },
        left_out={
            "unknown label": _in_image(
                r'polyline label="\w+"', lambda rng, m: f'polyline label="{choose(rng, WRONG_LABELS)}"'
            ),
            "label lost": _in_image(r'(?<=polyline) label="\w+"', lambda rng, m: ""),
            "points lost": _in_image(r' points="[^"]*"', lambda rng, m: ""),
            "no points": _in_image(r' points="[^"]*"', lambda rng, m: f' points="{choose(rng, NO_POINTS)}"'),
            "another shape": _with_shape(
                lambda rng: shape_xml("ridge", [(5.0, 5.0), (9.0, 9.0)], choose(rng, OTHER_SHAPES))
            ),
            "outside": _outside,
            "no size": _in_image(
                r' (width|height)="\d+"', lambda rng, m: f' {m[1]}="{choose(rng, NO_SIZES)}"'
            ),
            "size lost": _in_image(r' (width|height)="\d+"', lambda rng, m: ""),
            "another size": _sizes_swapped,
            "another name": _another_name,
            "twice in the file": lambda rng, source: source.with_image(2 * source.image),
        },
        other={"other curves": _curves_changed},
    )
)
NO_NUMBERS = ["nan", "NaN", "inf", "-Infinity", "1e400", "0x10", "1_0", "٥", "--5", "5.5.5", "5px", "True"]
NO_NUMBERS += ["", "½", "5 6", "5;6", "5, 6", "1e30", "-20000000", "None", "1" * 5_000, "5e", "e5", "."]


def xml_source(frame: TrueFrame) -> XmlSource:
    """The frame's contours as the challenge's XML."""
    return XmlSource(contours_xml(frame.landmarks), "contours")


def _element(rng: Rng, text: str, name: str) -> re.Match[str]:
    """One of the elements of that name; group 1 is what stands in it."""
    return choose(rng, tags(text, f"<{name}>(.*?)</{name}>"))


def _image_points(rng: Rng, text: str, change: Callable[[str], str]) -> bytes:
    """Changes the inside of one contour's imagePoints."""
    found = choose(rng, list(re.finditer(r"<imagePoints>.*?</imagePoints>", text, re.DOTALL)))
    return replaced(text, found, change(found[0])).encode()


def _number_replaced(numbers: list[str]) -> Callable[[Rng, XmlSource], bytes]:
    def operator(rng: Rng, source: XmlSource) -> bytes:
        found = _element(rng, source.text, choose(rng, ["x", "y"]))
        items = found[1].split(", ")
        items[int(rng.integers(len(items)))] = choose(rng, numbers)
        return _with_text(source.text, found, ", ".join(items))

    return operator


def _with_text(text: str, found: re.Match[str], inside: str) -> bytes:
    return (text[: found.start(1)] + inside + text[found.end(1) :]).encode()


def _set_text(name: str, values: list[str]) -> Callable[[Rng, XmlSource], bytes]:
    return lambda rng, source: _with_text(source.text, _element(rng, source.text, name), choose(rng, values))


def _count_off(rng: Rng, source: XmlSource) -> bytes:
    # modelPoints has a numOfPoints of its own, which says nothing here.
    text = source.text
    if rng.integers(2):
        found = _element(rng, text, "numOfContours")
        return _with_text(text, found, _off(rng, int(found[1])))
    return _image_points(
        rng, text, lambda points: re.sub(r"(?<=<numOfPoints>)\d+", lambda m: _off(rng, int(m[0])), points)
    )


def _off(rng: Rng, count: int) -> str:
    values = [count + 1, count - 1, 0, -count, count + 0.5, "", "many", "nan", "1e400", f"{count} {count}"]
    return str(choose(rng, values))


def _one_axis(rng: Rng, source: XmlSource) -> bytes:
    found = _element(rng, source.text, choose(rng, ["x", "y"]))
    items = found[1].split(", ")
    return _with_text(source.text, found, ", ".join(items[:-1] if rng.integers(2) else [*items, items[-1]]))


def _points_lost(rng: Rng, source: XmlSource) -> bytes:
    """The same number of x and y is missing, so that only the count shows it."""
    return _image_points(rng, source.text, lambda points: re.sub(r", [\d.]+(?=</[xy]>)", "", points))


def _element_lost(rng: Rng, source: XmlSource) -> bytes:
    name = choose(rng, ["numOfContours", "contourType", "x", "y", "imagePoints", "contour"])
    found = choose(rng, list(re.finditer(rf"<{name}>.*?</{name}>", source.text, re.DOTALL)))
    return replaced(source.text, found, choose(rng, ["", 2 * found[0]])).encode()


def _short_curve(rng: Rng, source: XmlSource) -> bytes:
    count = int(choose(rng, [0, 1, 2, 4]))
    numbers = ", ".join(["9"] * count)
    points = f"<imagePoints><numOfPoints>{count}</numOfPoints><x>{numbers}</x><y>{numbers}</y></imagePoints>"
    return _image_points(rng, source.text, lambda _: points)


def _separators(rng: Rng, source: XmlSource) -> bytes:
    def other(found: re.Match[str]) -> str:
        return re.sub(", ", lambda _: choose(rng, [",", ", ", " , ", ",\n\t\t\t", ",\t"]), found[0])

    return re.sub(r"<([xy])>.*?</\1>", other, source.text).encode()


def _spelled_p2ilf(rng: Rng, source: XmlSource) -> bytes:
    def other(number: re.Match[str]) -> str:
        value = float(number[0])
        spellings = [
            number[0],
            f"{value:.6f}",
            repr(value),
            f"{round(value * 100)}e-2",
            f"{value / 10:.9f}E+1",
        ]
        return choose(rng, spellings)

    return re.sub(
        r"<([xy])>.*?</\1>", lambda found: re.sub(r"(?<![\w<])[\d.]+", other, found[0]), source.text
    ).encode()


def _marked_up(rng: Rng, source: XmlSource) -> bytes:
    """Character references, CDATA and comments inside of a text."""
    found = _element(rng, source.text, choose(rng, ["x", "y", "contourType", "numOfContours"]))
    first, rest = found[1][0], found[1][1:]
    forms = [f"<![CDATA[{found[1]}]]>", f"&#{ord(first)};{rest}", f"&#x{ord(first):x};{rest}"]
    forms += [f"{first}<!-- the first -->{rest}", f"{first}<![CDATA[{rest}]]>", f"{first}<?pi?>{rest}"]
    return _with_text(source.text, found, choose(rng, forms))


def _other_model(rng: Rng, source: XmlSource) -> bytes:
    models = ["", "<modelPoints/>", "<modelPoints>none</modelPoints>", "<modelPoints><x>1</x></modelPoints>"]
    models += ["<modelPoints><numOfPoints>99</numOfPoints><vertices>1</vertices></modelPoints>"]
    return re.sub(
        r"<modelPoints>.*?</modelPoints>", lambda _: choose(rng, models), source.text, flags=re.DOTALL
    ).encode()


def _type_in_another_case(rng: Rng, source: XmlSource) -> bytes:
    found = _element(rng, source.text, "contourType")
    return _with_text(source.text, found, in_another_case(rng, found[1]))


def xml_operators(landmarks: Landmarks, size: tuple[int, int]) -> Operators[XmlSource]:
    """The operators on the XML of a frame of that size (width, height) in px with those landmarks."""

    def changed_curves(rng: Rng, source: XmlSource) -> tuple[bytes, Landmarks]:
        curves = other_curves(rng, landmarks, size)
        return contours_xml(curves).encode(), curves

    far = ["-3", "-10.5", "-1000", str(max(size) + 3), str(10 * max(size)), "16000000"]
    return XML_OPERATORS | Operators(
        same={
            "separators": _separators,
            "numbers spelled otherwise": _spelled_p2ilf,
            "mark-up in a text": _marked_up,
            "other model points": _other_model,
            "type's case": _type_in_another_case,
        },
        left_out={
            "no number": _number_replaced(NO_NUMBERS),
            "outside": _number_replaced(far),
            "wrong count": _count_off,
            "x longer than y": _one_axis,
            "points lost": _points_lost,
            "element lost or doubled": _element_lost,
            "fewer than two points": _short_curve,
            "unknown type": _set_text("contourType", WRONG_TYPES),
        },
        other={"other curves": changed_curves},
    )
