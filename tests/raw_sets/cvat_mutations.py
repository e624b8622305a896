"""Mutations of "CVAT for images 1.1": of one image among several, and of the file around them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .cvat import annotations_xml, image_xml, shape_xml
from .mutation import Operators, Rng, choose, in_another_case, other_curves
from .truth import Landmarks, RawSet, TrueFrame
from .xml_mutations import XML_OPERATORS, XmlSource, replaced, tags

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


Operator = Callable[[Rng, CvatSource], bytes]


def _in_image(pattern: str, change: Callable[[Rng, re.Match[str]], str]) -> Operator:
    """An operator that changes one place in the image."""

    def operator(rng: Rng, source: CvatSource) -> bytes:
        image = source.image
        found = choose(rng, tags(image, pattern))
        return source.with_image(replaced(image, found, change(rng, found)))

    return operator


def _with_shape(xml: Callable[[Rng], str]) -> Operator:
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
