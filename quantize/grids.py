"""Weights that come in blocks already: the recipe that keeps them bit for bit.

A checkpoint in the blocks of Q4_0 or Q8_0 (llama.cpp), read as float32, lies on the grids of
MatMulNBits: 32 inputs a scale, zero in the middle. Whoever rounds it to other blocks rounds twice.
Blocks with a minimum (Q4_1) do not: it is no whole number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgetfm.quantize.blocks import Form, round_blocks
from edgetfm.quantize.embeddings import find_embeddings
from edgetfm.quantize.linear import Matrix, constant, find_linears
from edgetfm.quantize.recipes import RECIPES, Precision, Recipe, for_decoders

SIZE = 32
"""Inputs of a block that is looked for."""

LOOKED_AT = 64
"""Outputs of a weight that are looked at, from all over it."""

MOST = 0.5
"""The share of all weights that must be in blocks already for the rest to follow them."""

BITS: dict[Precision, int] = {"int4": 4, "int8-weight": 8}


@dataclass(frozen=True)
class _Weight:
    """A product or a table of its own: its node's name, its size, and some of it."""

    name: str
    size: int
    some: Matrix  # [inputs, outputs]


def kept_blocks(model: ir.Model, precision: Precision) -> Recipe | None:
    """The recipe of this precision that rounds nothing of what is in its blocks already.

    None if less than half of the weights are. Those that are not get 8 bits beside 4.
    """
    bits = BITS.get(precision)
    weights = list(_weights(model))
    if bits is None or not weights:
        return None
    kept = {w.name for w in weights if _is_in_blocks(w.some, Form(bits, SIZE, True))}
    total = sum(w.size for w in weights)
    if sum(w.size for w in weights if w.name in kept) < MOST * total:
        return None
    others = tuple(w.name for w in weights if w.name not in kept)
    return replace(
        for_decoders(RECIPES[precision], SIZE),
        rounding="nearest",
        symmetric=True,
        by_block=others if bits == 4 else (),
    )


def _weights(model: ir.Model) -> Iterator[_Weight]:
    linears, _ = find_linears(model, ())
    for linear in linears:
        inputs, outputs = linear.shape
        values = constant(linear.weight)
        few = slice(None, None, max(1, outputs // LOOKED_AT))
        some = values[few].T if linear.transposed else values[:, few]
        yield _Weight(linear.name, inputs * outputs, np.asarray(some, np.float32))
    products = {linear.weight.name for linear in linears}
    for embedding in find_embeddings(model):
        if embedding.table.name not in products:
            table = constant(embedding.table)
            few = slice(None, None, max(1, len(table) // LOOKED_AT))
            yield _Weight(embedding.name, table.size, np.asarray(table[few].T, np.float32))


def _is_in_blocks(some: Matrix, form: Form) -> bool:
    return bool(np.array_equal(round_blocks(some, form).dequantized(), some))
