"""Other optimizers of this kind, where they are installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Iterable

# Distribution -> the module of it that is measured.
PEERS = {
    "galore-torch": "galore_torch.adamw",
    "pytorch-optimizer": "pytorch_optimizer.optimizer.galore",
    "apollo-torch": "apollo_torch.apollo",
}
# What the packages' own __init__ imports for optimizers that are not measured (8-bit ones).
UNNEEDED = ("bitsandbytes",)


def import_without_init(module: str) -> types.ModuleType:
    """Imports a module of a package, skipping what the package's `__init__` would import.

    Raises:
        ImportError: the package or something that the module itself needs is missing.
    """
    package = module.split(".")[0]
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    bare = types.ModuleType(package)
    bare.__path__ = list(found.submodule_search_locations)
    sys.modules[package] = bare
    try:
        return importlib.import_module(module)
    finally:
        # Whoever imports the package later gets the whole of it, or its own error.
        del sys.modules[package]


def import_peer(module: str) -> types.ModuleType:
    """The peer's module, without its package's `__init__` where only that lacks something unneeded.

    Raises:
        ImportError: the peer, or something that it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in UNNEEDED:
            raise
        return import_without_init(module)


def find_peers(wanted: Iterable[str]) -> tuple[dict[str, types.ModuleType], dict[str, str]]:
    """The modules of the wanted peers, and of each peer its version or why it cannot be measured."""
    modules, remarks = {}, {}
    for name in wanted:
        try:
            modules[name] = import_peer(PEERS[name])
            remarks[name] = f"version {importlib.metadata.version(name)}"
        except ImportError as error:
            remarks[name] = f"not installed: {error}"
    return modules, remarks
