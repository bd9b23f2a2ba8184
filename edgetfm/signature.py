"""The tensors a graph takes and gives: name, dtype and axes, fixed or symbolic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import InputError, listed

Array = NDArray[Any]
Feeds = dict[str, Array]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its `dtype` is numpy's name, an axis is a size or the name of a free one."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def to_json(self) -> dict[str, Any]:
        """The form it has in edgetfm.json."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(str(data["name"]), str(np.dtype(data["dtype"])), tuple(data["shape"]))

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, Any]:
        """The form it has in edgetfm.json."""
        return {
            "inputs": [t.to_json() for t in self.inputs],
            "outputs": [t.to_json() for t in self.outputs],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            tuple(TensorSpec.from_json(t) for t in data["inputs"]),
            tuple(TensorSpec.from_json(t) for t in data["outputs"]),
        )

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the free axes of the inputs, in the order they appear."""
        return tuple(dict.fromkeys(a for t in self.inputs for a in t.shape if isinstance(a, str)))

    def check(self, feeds: Mapping[str, Any]) -> Feeds:
        """The feeds as arrays of the right dtype, or an InputError that lists every problem.

        Python lists are taken. Integers are cast to the wanted integer type, floats to the
        wanted float type; nothing else is converted. A free axis must have one size throughout.
        """
        arrays: Feeds = {}
        sizes: dict[str, tuple[int, str]] = {}
        known = [t.name for t in self.inputs]
        problems = [
            f"unknown input '{name}' (the graph takes {', '.join(known)})"
            for name in feeds
            if name not in known
        ]
        for spec in self.inputs:
            if spec.name not in feeds:
                problems.append(f"missing input {spec}")
                continue
            array = np.asarray(feeds[spec.name])
            arrays[spec.name] = np.ascontiguousarray(array, dtype=spec.dtype)
            if array.dtype.kind not in _CASTS[np.dtype(spec.dtype).kind]:
                problems.append(f"{spec.name} is {array.dtype}, expected {spec.dtype}")
            if array.ndim != len(spec.shape):
                problems.append(f"{spec.name} has shape {array.shape}, expected {spec}")
                continue
            for axis, size in zip(spec.shape, array.shape, strict=True):
                if isinstance(axis, int):
                    if axis != size:
                        problems.append(f"{spec.name} has shape {array.shape}, expected {spec}")
                elif sizes.setdefault(axis, (size, spec.name))[0] != size:
                    wanted, where = sizes[axis]
                    problems.append(f"{spec.name} has {axis}={size}, but {where} has {wanted}")
                elif size == 0:
                    problems.append(f"{spec.name} is empty: {axis} is 0")
        if problems:
            raise InputError(listed(problems))
        return arrays


# The numpy kinds that may be cast to a wanted kind without losing meaning.
_CASTS = {"i": "iub", "u": "iub", "f": "fiu", "b": "b"}
