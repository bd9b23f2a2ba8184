"""Weights in llama.cpp's blocks, made by its own library, are kept bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from gguf import GGMLQuantizationType, dequantize, quantize

from edgetfm.quantize.block_forms import weights_in_blocks
from edgetfm.quantize.grids import kept_blocks
from edgetfm.quantize.linear import Matrix, find_linears
from edgetfm.quantize.plan import Memo
from edgetfm.quantize.recipes import Precision

WIDTH, WORDS = 64, 1200


def in_blocks(rng: np.random.Generator, kind: str, outputs: int) -> Matrix:
    """A weight [inputs, outputs] as a GGUF file of this kind gives it."""
    values = rng.normal(size=(outputs, WIDTH)).astype("f4")
    if kind != "F32":
        one = GGMLQuantizationType[kind]
        values = np.asarray(dequantize(quantize(values, one), one), "f4")
    return np.ascontiguousarray(values.T)


def decoder(builder: Any, rng: np.random.Generator, **kinds: str) -> ir.Model:
    """A table of words and three products of the same width, each of its kind."""
    b = builder(input_ids=[1, "n"])
    table = b.constant(in_blocks(rng, kinds["table"], WORDS).T, "words")
    x = b("Gather", table, "input_ids", name="table")
    for name in ("one", "two"):
        x = b("Tanh", b.linear(x, in_blocks(rng, kinds[name], WIDTH), None, name))
    b.linear(x, in_blocks(rng, kinds["head"], 200), None, "head")
    return b.model(head=[1, "n", 200])


@pytest.mark.parametrize(("kind", "precision"), [("Q4_0", "int4"), ("Q8_0", "int8-weight")])
def test_blocks_are_repacked_without_a_second_rounding(
    builder: Any, rng: np.random.Generator, kind: str, precision: Precision
) -> None:
    model = decoder(builder, rng, table=kind, one=kind, two=kind, head=kind)
    recipe = kept_blocks(model, precision)
    assert recipe is not None
    assert recipe.by_block == ()
    (made,) = weights_in_blocks(model, [recipe], [], memo=Memo())
    linears, _ = find_linears(model, ())
    assert len(linears) == 3
    for linear in linears:
        assert np.array_equal(made[linear.name].blocks.dequantized(), linear.matrix())


def test_what_is_in_other_blocks_gets_8_bits(builder: Any, rng: np.random.Generator) -> None:
    """llama.cpp gives the head and the table of a Q4_0 file more bits."""
    model = decoder(builder, rng, table="Q8_0", one="Q4_0", two="Q4_0", head="Q4_1")
    assert kept_blocks(model, "int4") is None, "the table is most of it"
    model = decoder(builder, rng, table="Q4_0", one="Q4_0", two="Q8_0", head="F32")
    recipe = kept_blocks(model, "int4")
    assert recipe is not None
    assert set(recipe.by_block) == {"two", "head"}


@pytest.mark.parametrize("kind", ["F32", "Q4_1"])
@pytest.mark.parametrize("precision", ["int4", "int8-weight", "fp16"])
def test_other_weights_have_no_blocks_to_keep(
    builder: Any, rng: np.random.Generator, kind: str, precision: Precision
) -> None:
    model = decoder(builder, rng, table=kind, one=kind, two=kind, head=kind)
    assert kept_blocks(model, precision) is None
