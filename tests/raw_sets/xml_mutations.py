"""Mutations of any XML annotation, by its text: damage, encodings, entities, spellings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .mutation import Operators, Rng, choose

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
