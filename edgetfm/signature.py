"""The tensors a graph takes and gives: name, dtype and axes, fixed or symbolic."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import InputError, listed

Array = NDArray[Any]
Feeds = dict[str, Array]


PAST = "past_key_values."
KEEP = "num_logits_to_keep"
CACHE_INPUTS = (PAST, KEEP)
PRESENT = "present."
CACHE_OUTPUTS = (PRESENT,)
TARGET, TARGET_MASK = "decoder_input_ids", "decoder_attention_mask"
"""How the tensors are called that a decoder's steps hand on, and the input that says how many of
a step's tokens get logits; then the text that an encoder-decoder writes about its source, and which
of its tokens count."""

USE_CACHE = "use_cache_branch"
"""The input, bool [1], by which Optimum's merged decoders choose the branch: is anything past?"""

UNBOUNDED = 1 << 30
"""The context of a decoder that remembers as much of a text of any length."""


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
        name, dtype, shape = data["name"], data["dtype"], data["shape"]
        if not isinstance(name, str) or not name:
            raise ValueError(f"{name!r} is not the name of a tensor")
        if dtype not in DTYPES:
            raise ValueError(f"{name} has dtype {dtype!r}; known are {', '.join(DTYPES)}")
        if not isinstance(shape, list | tuple) or not all(map(_is_axis, shape)):
            raise ValueError(f"{name} has shape {shape!r}: an axis is a size or a name")
        return cls(name, dtype, tuple(shape))

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
        sides = [tuple(map(TensorSpec.from_json, data[side])) for side in ("inputs", "outputs")]
        for side in sides:
            if len({t.name for t in side}) != len(side):
                raise ValueError(f"two tensors have one name: {', '.join(t.name for t in side)}")
        return cls(*sides)

    @property
    def has_cache(self) -> bool:
        """Whether it is a decoder's, which goes step by step."""
        return any(t.name.startswith(CACHE_INPUTS) for t in self.inputs)

    @property
    def has_source(self) -> bool:
        """Whether it is an encoder-decoder's as a whole: a source, and a text about it."""
        return any(t.name == TARGET for t in self.inputs)

    @property
    def of_source(self) -> Self:
        """The part of such a signature that is about the source; any other is what it is."""
        return self.without((TARGET, TARGET_MASK)) if self.has_source else self

    @property
    def remembers(self) -> bool:
        """Whether what its steps hand on is always of one size, and not one more a token."""
        kept = [t for t in self.outputs if t.name.startswith(CACHE_OUTPUTS)]
        return bool(kept) and all(isinstance(t.shape[2], int) for t in kept if len(t.shape) == 4)

    @property
    def of_whole_texts(self) -> Self:
        """What a decoder is when it is asked about whole texts; any other is what it is.

        It takes tokens and no past, gives logits of every token, and keeps nothing.
        """
        if not self.has_cache:
            return self
        inputs = (t for t in self.inputs if not t.name.startswith(CACHE_INPUTS))
        outputs = (t for t in self.outputs if not t.name.startswith(CACHE_OUTPUTS))
        return type(self)(tuple(map(_whole, inputs)), tuple(map(_whole, outputs)))

    def whole_texts(self, feeds: Feeds) -> Feeds:
        """The feeds of a decoder's first step: nothing is past."""
        batch = len(feeds["input_ids"])
        feeds = dict(feeds)
        for spec in self.inputs:
            if spec.name.startswith(PAST):
                _, heads, _, size = spec.shape
                feeds[spec.name] = np.zeros((batch, int(heads), 0, int(size)), spec.dtype)
        return feeds

    def without(self, inputs: Collection[str]) -> Self:
        """The same without these inputs."""
        return replace(self, inputs=tuple(t for t in self.inputs if t.name not in inputs))

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the free axes of the inputs, in the order they appear."""
        return tuple(dict.fromkeys(a for t in self.inputs for a in t.shape if isinstance(a, str)))

    def check(self, feeds: Mapping[str, Any]) -> Feeds:
        """The feeds as arrays of the right dtype, or an InputError that lists every problem.

        Python lists are taken. Integers and booleans are cast to the wanted integer type, floats
        and integers to the wanted float type, where it can hold them; nothing else is converted.
        A free axis must have one size throughout.
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
            try:
                array = np.asarray(feeds[spec.name])
            except ValueError:
                problems.append(f"{spec.name} is ragged: pad the rows to one length")
                continue
            cast = _cast(array, np.dtype(spec.dtype))
            if cast is None:
                problems.append(f"{spec.name} is {array.dtype}, expected {spec.dtype}")
            elif not _survives(array, cast):
                problems.append(f"{spec.name} has values that {spec.dtype} cannot hold")
            else:
                arrays[spec.name] = cast
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


def _whole(spec: TensorSpec) -> TensorSpec:
    """A tensor of a decoder when all tokens are the step's, and all get logits."""
    same = {"total_sequence": "sequence", "kept": "sequence"}
    return replace(spec, shape=tuple(same.get(str(axis), axis) for axis in spec.shape))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names of tensors as a module's arguments: `a.b.c` is the entry `b.c` of `a`."""
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        whole, dot, entry = name.partition(".")
        if dot:
            arguments.setdefault(whole, {})[entry] = value
        else:
            arguments[name] = value
    return arguments


DTYPES = (
    *("float32", "float16", "float64", "bool"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
"""The dtypes a graph's inputs and outputs may have."""

BATCH, SEQUENCE = "batch", "sequence"
SAMPLES, FRAMES = "samples", "frames"


def is_batch(axis: int | str) -> bool:
    """Whether an axis counts items: `batch`, or `image_batch` where each sense has its own."""
    return isinstance(axis, str) and (axis == BATCH or axis.endswith(f"_{BATCH}"))


ASKED_SIZES: dict[str, tuple[int, int]] = {
    "height": (224, 448),
    "width": (448, 672),
    SAMPLES: (9_443, 12_801),
}
"""Free axes that small sizes do not do for -> two sizes to trace and to ask a model with.

Pictures: patches of 14, 16 and 32 pixels divide them. Waves: 29 frames of 20 ms and more, for SEW
pads what is odd, and a graph traced with an even number would not.
"""


# The numpy kinds that may be cast to a wanted kind without losing meaning.
_CASTS = {"i": "iub", "u": "iub", "f": "fiu", "b": "b"}


def _is_axis(axis: object) -> bool:
    if isinstance(axis, str):
        return axis != ""
    return isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0


def _cast(array: Array, dtype: np.dtype[Any]) -> Array | None:
    """The array in C order and of this type, or None if its kind may not be cast to it."""
    if array.dtype.kind not in _CASTS[dtype.kind]:
        return None
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype=dtype, order="C")


def _survives(array: Array, cast: Array) -> bool:
    """Whether no integer wrapped around and no finite number became infinite."""
    if cast is array or array.dtype == cast.dtype:
        return True
    if cast.dtype.kind == "f":
        return bool((np.isfinite(cast) | ~np.isfinite(array)).all())
    return bool((cast == array).all())
