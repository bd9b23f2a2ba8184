"""CTranslate2's model.bin: its weights and numbers by name, mapped, nothing unpickled.

The layout is that of CTranslate2's own converter, `ModelSpec.save`:
https://github.com/OpenNMT/CTranslate2/blob/master/python/ctranslate2/specs/model_spec.py
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import SourceError

VERSIONS = (5, 6)
"""Of the file's layout; 5 came with int8 scales and 6 with bfloat16."""

_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2", 5: "<u2"}
_BFLOAT16 = 5
_MOST_AXES = 8


@dataclass(frozen=True)
class CTranslate2Model:
    """One model.bin. spec: as CTranslate2 calls its kind, such as WhisperSpec.

    weights: as the file has them; bfloat16 as float32. aliases: another name -> the weight's.
    """

    path: Path
    spec: str
    weights: Mapping[str, NDArray[Any]]
    aliases: Mapping[str, str]

    def number(self, name: str, default: int = 0) -> int:
        """A setting that is kept as a weight without axes."""
        found = self.weights.get(name)
        return default if found is None or found.size != 1 else int(found.reshape(-1)[0])


def open_model(path: Path) -> CTranslate2Model:
    """The content of a model.bin; SourceError for a file that is damaged or of another version."""
    file = _Reader(path, np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0))
    version = file.number("I")
    if version not in VERSIONS:
        raise SourceError(
            f"{path} is no model of CTranslate2 in a layout that is known: it starts with "
            f"{version}, known are {', '.join(map(str, VERSIONS))}"
        )
    spec = file.text()
    file.number("I")  # the spec's own revision
    weights = dict(file.weight() for _ in range(file.number("I")))
    aliases = {file.text(): file.text() for _ in range(file.number("I"))}
    return CTranslate2Model(path, spec, weights, aliases)


class _Reader:
    """Little-endian numbers, texts and arrays one after the other; nothing beyond the end."""

    def __init__(self, path: Path, data: NDArray[Any]) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, size: int) -> NDArray[Any]:
        if size > len(self.data) - self.at:
            raise SourceError(
                f"{self.path} is not a whole model of CTranslate2: it ends at byte "
                f"{len(self.data)}, in the middle; download it again"
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, kind: str) -> int:
        size = struct.calcsize(f"<{kind}")
        return int(struct.unpack(f"<{kind}", self.take(size).tobytes())[0])

    def text(self) -> str:
        found = self.take(self.number("H")).tobytes()
        try:
            return found.rstrip(b"\0").decode()
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.path} is damaged at byte {self.at}: {error}") from error

    def weight(self) -> tuple[str, NDArray[Any]]:
        name = self.text()
        axes = self.number("B")
        if axes > _MOST_AXES:
            raise SourceError(f"{self.path}: {name} has {axes} axes, at most {_MOST_AXES}")
        shape = tuple(self.number("I") for _ in range(axes))
        kind, size = self.number("B"), self.number("I")
        if kind not in _TYPES or size != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize:
            raise SourceError(
                f"{self.path}: {name} is {size} bytes of type {kind} in the shape {list(shape)}"
            )
        # The file aligns nothing, so what lies in it cannot be looked at as it is.
        values = np.frombuffer(self.take(size).tobytes(), _TYPES[kind]).reshape(shape)
        if kind == _BFLOAT16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return name, values
