"""The recipes, one row each: which parts of a graph get which type, and how that is chosen.

A recipe is a value. The one that made a variant is saved in its bundle; the same recipe and the
same calibration data give the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from edgetfm.errors import InputError, listed

Precision = Literal["int8", "int8-static", "a16w8", "int8-weight", "int4", "fp16"]
Rounding = Literal["nearest", "compensated"]
Ranges = Literal["min-max", "percentile", "entropy", "mse"]
Scope = Literal["products", "all"]
BLOCKS = (16, 32, 64, 128, 256)
"""Sizes of the blocks of inputs that share a scale, as MatMulNBits takes them."""

LONGEST_NAME, MOST_STRENGTHS = 100, 100
"""Characters of a recipe's name; strengths of smoothing that are tried."""


@dataclass(frozen=True)
class Recipe:
    """How a variant is made from the float32 graph.

    precision: the type of the matrix products; also the variant's name in the bundle.
    embeddings: whether embedding tables are stored in int8, a scale a row.
    smoothing: the strengths tried at each activation; the one with the smallest measured output
    error is taken, or none. () leaves smoothing out.
    min_gain: a Mul is added for smoothing only where the error shrinks by this factor or more;
    where the scale folds into weights it costs nothing and any gain is taken.
    rounding: `nearest`, or `compensated`: each row of a weight is rounded so that it makes up for
    the error of the rows before it, on calibration data.
    keep_float: names of nodes left in float32.
    by_block: names of nodes whose weight is in 8-bit blocks (MatMulNBits) instead: slower than
    int8 and faster than float32, independent of batch neighbours, and next to float32 in accuracy
    unless a few channels are far larger than their block.
    pair_safe: names of nodes whose int8 weights are made so that no sum of two products overflows
    16 bits, as it does on x86 CPUs with AVX2 and without VNNI.
    table_bits: of weight-only recipes: 4 or 8 puts embedding tables into blocks of so many bits,
    like those of a product, which may be a table's other reader; 0 leaves them in int8 with a
    scale a row. A node of `by_block` has its table in 8 bits.
    block_size, symmetric: of weight-only recipes and `by_block`: inputs a scale, and whether the
    grid has its zero in the middle.
    ranges: how a static recipe chooses the range of an activation.
    scope: what a static recipe quantizes: the inputs of matrix products, or all activations.
    """

    name: str
    precision: Precision
    embeddings: bool = True
    smoothing: tuple[float, ...] = ()
    min_gain: float = 1.0
    rounding: Rounding = "nearest"
    keep_float: tuple[str, ...] = ()
    by_block: tuple[str, ...] = ()
    pair_safe: tuple[str, ...] = ()
    table_bits: int = 0
    block_size: int = 32
    symmetric: bool = True
    ranges: Ranges = "min-max"
    scope: Scope = "products"

    @property
    def is_static(self) -> bool:
        """Whether activations are rounded to ranges that are fixed beforehand."""
        return self.precision in ("int8-static", "a16w8")

    @property
    def activation_bits(self) -> int:
        """Of the grids of activations, where they are rounded; weights have 8."""
        return 16 if self.precision == "a16w8" else 8

    @property
    def is_weight_only(self) -> bool:
        """Whether all products are in blocks."""
        return self.precision in ("int8-weight", "int4")

    @property
    def needs_calibration(self) -> bool:
        """Whether activations must be observed."""
        return self.is_static or bool(self.smoothing) or self.rounding != "nearest"

    @property
    def observes_all(self) -> bool:
        """Whether all data is looked at. For weights in blocks that are rounded to nearest it only
        says how far the outputs of each product move: a little is enough."""
        return self.needs_calibration or not self.is_weight_only

    def to_json(self) -> dict[str, Any]:
        """The form it has in edgetfm.json."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; an InputError lists everything that is wrong."""
        if not isinstance(data, Mapping):
            raise InputError(f"a recipe is a JSON object, this is {type(data).__name__}")
        known = {f.name for f in fields(cls)}
        problems = [f"unknown field {key!r:.80}" for key in data if key not in known]
        problems += [f"missing field '{key}'" for key in ("name", "precision") if key not in data]
        for key, value in data.items():
            wanted = _KINDS.get(key)
            if wanted and not wanted(value):
                problems.append(f"{key} cannot be {value!r:.80}{_ALLOWED.get(key, '')}")
        if problems:
            raise InputError(f"this is not a recipe:\n{listed(problems)}")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        return cls(**values)


def _number(value: object) -> bool:
    """Whether it is a finite number; an integer may be larger than any float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max


def _name(value: object) -> bool:
    """Whether it can be shown and be part of a file's name."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        return False
    return value.isprintable() and not set(value) & {"/", "\\"}


def _names(value: object) -> bool:
    """Whether these may be names of nodes: any text, but half a surrogate pair is none."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(n, str) and not any("\ud800" <= c <= "\udfff" for c in n) for n in value
    )


def _strengths(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) > MOST_STRENGTHS:
        return False
    return all(_number(a) and 0 <= a <= 1 for a in value)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "name": _name,
    "precision": lambda v: v in get_args(Precision),
    "embeddings": lambda v: isinstance(v, bool),
    "smoothing": _strengths,
    "min_gain": lambda v: _number(v) and v >= 1,
    "rounding": lambda v: v in ("nearest", "compensated"),
    "keep_float": _names,
    "by_block": _names,
    "pair_safe": _names,
    "table_bits": lambda v: type(v) is int and v in (0, 4, 8),
    "block_size": lambda v: type(v) is int and v in BLOCKS,
    "symmetric": lambda v: isinstance(v, bool),
    "ranges": lambda v: v in get_args(Ranges),
    "scope": lambda v: v in get_args(Scope),
}

_ALLOWED = {
    "name": f": 1 to {LONGEST_NAME} printable characters without slashes",
    "smoothing": f": at most {MOST_STRENGTHS} numbers from 0 to 1",
    "min_gain": ": a finite number, 1 or more",
    "table_bits": ": 0, 4 or 8",
    "block_size": f": one of {', '.join(map(str, BLOCKS))}",
}

RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe(
            "int8",
            "int8",
            smoothing=(0.6, 0.75, 0.85, 0.95),
            min_gain=1.1,
            rounding="compensated",
        ),
        Recipe(
            "int8-static",
            "int8-static",
            smoothing=(0.6, 0.75, 0.85, 0.95),
            min_gain=1.1,
            rounding="compensated",
        ),
        # For NPUs alone, and theirs take no table of int8: they would leave it to the CPU.
        Recipe("a16w8", "a16w8", embeddings=False, rounding="compensated", scope="all"),
        Recipe("int8-weight", "int8-weight", rounding="compensated", block_size=32),
        Recipe("int4", "int4", rounding="compensated", block_size=32, symmetric=False),
        Recipe("fp16", "fp16", embeddings=False),
    )
}

FOR_DECODERS: tuple[Precision, ...] = ("int4", "int8-weight", "fp16")
"""What a decoder can be. Where activations are rounded to one scale a tensor, an answer depends on
how a text is cut into steps."""

DECODER_BLOCKS = (128, 64, 32)
"""Blocks of a decoder's int4, the smallest file first: every token reads all weights, so it is the
fastest too. Where a weight's inputs are no multiple of a size, that weight takes a smaller one."""


def for_decoders(recipe: Recipe, block_size: int | None = None) -> Recipe:
    """A weight-only recipe as decoders are best made by it; any other is what it is.

    The table of words is half of a small decoder, and its head too: it goes into blocks. 8-bit
    blocks get zero points. On SmolLM2-135M the greedy token of 96 instead of 95 in 100 is then
    that of float32. 4-bit ones are 64 long there unless a size is given: 11 % smaller than at 32,
    and compensated perplexity on film reviews is 52.7 instead of 51.5 (float32: 48.0).
    """
    if recipe.precision == "int8-weight":
        return replace(recipe, table_bits=8, symmetric=False, block_size=block_size or 32)
    if recipe.precision == "int4":
        return replace(recipe, table_bits=4, block_size=block_size or 64)
    return recipe
