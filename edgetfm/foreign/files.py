"""Where an ONNX file that was not exported here is, and the files that belong to it."""

from __future__ import annotations

import os
from pathlib import Path

from edgetfm.errors import InputError
from edgetfm.manifest import MANIFEST

_PLACES = ("onnx/model.onnx", "model.onnx")
"""Where a folder keeps its graph: the Hub's and Optimum's, and plain."""

_PARTS = ("encoder_model", "decoder_model", "decoder_with_past_model")
"""What Optimum calls the graphs of an encoder-decoder."""

_BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")


def is_foreign(path: str | os.PathLike[str]) -> bool:
    """Whether this is an ONNX file, or a folder that holds one and is no bundle."""
    place = Path(path)
    if place.suffix == ".onnx":
        return True
    if not place.is_dir() or (place / MANIFEST).exists():
        return False
    return any(place.glob("onnx/*.onnx")) or any(place.glob("*.onnx"))


def holds_weights(place: Path) -> bool:
    """Whether a folder has a PyTorch model beside its graphs, which is then the better source."""
    found = any(place.glob("*.safetensors")) or (place / "adapter_config.json").is_file()
    return place.is_dir() and found and (place / "config.json").is_file()


def graph_file(place: Path) -> Path:
    """The graph at a path: a file, or in a folder onnx/model.onnx, model.onnx or the only one.

    Raises InputError if there are several of other names, and for the parts of an encoder-decoder.
    """
    if not place.is_dir():
        return place
    for name in _PLACES:
        if (place / name).is_file():
            return place / name
    found = sorted(place.glob("*.onnx")) or sorted(place.glob("onnx/*.onnx"))
    parts = [f.stem for f in found if f.stem.startswith(_PARTS)]
    if any(p.startswith("encoder") for p in parts) and any(p.startswith("dec") for p in parts):
        raise InputError(
            f"{place} holds an encoder-decoder in parts ({', '.join(parts)}), which edgetfm does "
            "not take from ONNX files: give the PyTorch model they were made of"
        )
    if len(found) != 1:
        names = ", ".join(f.name for f in found) or "none"
        raise InputError(f"{place} has no {' or '.join(_PLACES)}; name one of its graphs: {names}")
    return found[0]


def home_of(file: Path) -> Path:
    """The folder with what stands beside the graph: its own, or the one above `onnx`."""
    alone = not any((file.parent / name).is_file() for name in _BESIDE)
    return file.parent.parent if alone and file.parent.name == "onnx" else file.parent
