"""What a build of a raw set is asked for, and what identifies its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...curves.protocols import AS_DRAWN, get_protocol
from ..readers import (
    CustomOptions,
    Found,
    L3dOptions,
    MaskOptions,
    Plan,
    SplitOptions,
    find_custom,
    find_l3d,
    find_masks,
    find_p2ilf,
)

# Part of a build's fingerprint: raise it whenever the same raw set gives other rows.
READER_VERSION = 1

SetName = Literal["l3d", "p2ilf", "llsd", "custom"]
DEFAULT_PROTOCOLS: dict[str, str] = {
    "l3d": "d2gpland",
    "p2ilf": "p2ilf",
    "llsd": AS_DRAWN,
    "custom": "synthetic",
}


@dataclass(frozen=True)
class RawRequest:
    """What to build from which folder.

    Attributes:
        set_name: `l3d`, `p2ilf`, `llsd` or `custom`: how the folder is read.
        raw: The raw folder.
        options: L3dOptions, MaskOptions or CustomOptions; P2ILF has none.
        splits: Where folders do not decide; L3D's do.
        protocol: How labels are drawn; None: `DEFAULT_PROTOCOLS`.
    """

    set_name: SetName
    raw: Path
    options: L3dOptions | MaskOptions | CustomOptions | None = None
    splits: SplitOptions = field(default_factory=SplitOptions)
    protocol: str | None = None

    def __post_init__(self) -> None:
        expected = {"l3d": L3dOptions, "llsd": MaskOptions, "custom": CustomOptions, "p2ilf": type(None)}
        if self.set_name not in expected:
            raise ValueError(f"set {self.set_name!r} is unknown: choose one of {', '.join(expected)}")
        if not isinstance(self.options, expected[self.set_name]):
            raise ValueError(f"set {self.set_name!r} takes options of {expected[self.set_name].__name__}")
        if self.label_protocol != AS_DRAWN:
            get_protocol(self.label_protocol)
        elif self.set_name != "llsd":
            raise ValueError(f"protocol {AS_DRAWN!r} is for masks; {self.set_name} has polylines to draw")

    @property
    def label_protocol(self) -> str:
        """The protocol that labels are drawn by."""
        return self.protocol or DEFAULT_PROTOCOLS[self.set_name]

    @property
    def source(self) -> str:
        """The schema's `source` of all its frames."""
        if isinstance(self.options, L3dOptions):
            return self.options.edition
        return self.set_name if self.options is None else self.options.source

    def find(self) -> Found:
        """What the reader of the set finds."""
        if isinstance(self.options, L3dOptions):
            return find_l3d(self.raw, self.options)
        if isinstance(self.options, MaskOptions):
            return find_masks(self.raw, self.options)
        if isinstance(self.options, CustomOptions):
            return find_custom(self.raw, self.options)
        return find_p2ilf(self.raw)

    def as_json(self, plan: Plan) -> dict[str, Any]:
        """All that decides the set's bytes, as JSON values without paths of this machine."""
        options = {} if self.options is None else asdict(self.options)
        if isinstance(self.options, CustomOptions):
            # What is in these files counts, and not where they lie: the labels here, the XML in `inputs`.
            options |= {"label_map": dict(self.options.labels().classes), "annotations": None}
        found = {
            "inputs": plan.inputs,
            "problems": [asdict(problem) for problem in plan.problems],
            "tolerated": plan.tolerated,
            "pictures": plan.pictures,
        }
        return {
            "set": self.set_name,
            "reader_version": READER_VERSION,
            "options": options,
            "splits": asdict(self.splits),
            "protocol": self.label_protocol,
            "raw_sha256": hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest(),
        }
