"""Where an ONNX file that was not exported here is, and the files that belong to it."""

from __future__ import annotations

import os
from pathlib import Path

from edgetfm.bundle import MANIFEST
from edgetfm.errors import InputError

_PLACES = ("onnx/model.onnx", "model.onnx")
"""Where a folder keeps its graph: the Hub's and Optimum's, and plain."""

_BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")


def is_foreign(path: str | os.PathLike[str]) -> bool:
    """Whether this is an ONNX file, or a folder that holds one and is no bundle."""
    place = Path(path)
    if place.suffix == ".onnx":
        return True
    if not place.is_dir() or (place / MANIFEST).exists():
        return False
    return any((place / name).is_file() for name in _PLACES) or any(place.glob("*.onnx"))


def graph_file(place: Path) -> Path:
    """The graph at a path: a file, or in a folder onnx/model.onnx, model.onnx or the only one."""
    if not place.is_dir():
        return place
    for name in _PLACES:
        if (place / name).is_file():
            return place / name
    found = sorted(place.glob("*.onnx"))
    if len(found) != 1:
        names = ", ".join(f.name for f in found) or "none"
        raise InputError(f"{place} has no {' or '.join(_PLACES)}; name one of its graphs: {names}")
    return found[0]


def home_of(file: Path) -> Path:
    """The folder with what stands beside the graph: its own, or the one above `onnx`."""
    alone = not any((file.parent / name).is_file() for name in _BESIDE)
    return file.parent.parent if alone and file.parent.name == "onnx" else file.parent
