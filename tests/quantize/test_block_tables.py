"""Embedding tables in blocks, alone and as the last layer of a graph too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.oracle import dequantized
from tests.quantize.test_weight_only import cosine, tied

FOUR = replace(RECIPES["int4"], table_bits=4)


def large(model: ir.Model) -> list[ir.DataType]:
    """The types of a model's constants of a thousand rows and more."""
    weights = [v.const_value for v in model.graph.initializers.values() if v.const_value]
    return [w.dtype for w in weights if w.nbytes > 1200 * 16]


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zero points"])
@pytest.mark.parametrize(("width", "block"), [(64, 64), (48, 16), (192, 64), (80, 16)])
@pytest.mark.parametrize("eight", [False, True], ids=["4 bits", "8 bits"])
def test_a_tied_table_is_stored_once_and_both_its_readers_read_it(
    builder: Any,
    run: Any,
    rng: np.random.Generator,
    width: int,
    block: int,
    symmetric: bool,
    eight: bool,
) -> None:
    """The last blocks of a row may share a byte of zero points with nothing."""
    model, ids = tied(builder, rng, width), rng.integers(0, 1200, (2, 9))
    by_block = ("logits",) if eight else ()
    recipe = replace(FOUR, block_size=64, symmetric=symmetric, by_block=by_block)
    small, facts = quantize_graph(model, recipe, [{"input_ids": ids}])
    assert large(small).count(ir.DataType.UINT8) == 1
    bits = 8 if eight else 4
    (node,), (table,) = facts["nodes"], facts["embeddings"]
    assert node["form"] == table["form"] == f"{bits}-bit blocks of {block}"
    zeros = 0 if symmetric else -(-(width // block) * bits // 8)
    assert node["bytes"] == 1200 * (width * bits // 8 + width // block * 4 + zeros)
    assert table["bytes"] == 0
    wanted = run(dequantized(small), input_ids=ids)["logits:0"]
    for optimize in (False, True):
        got = run(small, optimize=optimize, input_ids=ids)["logits:0"]
        assert np.abs(got - wanted).max() < 0.02 * np.abs(wanted).max()
    assert cosine(wanted, run(model, input_ids=ids)["logits:0"]) > (0.9999 if eight else 0.98)


def test_a_table_of_its_own_is_gathered_from_blocks_exactly(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    b = builder(input_ids=["n", "m"])
    b(
        "Gather",
        b.constant(rng.normal(size=(1300, 96)).astype("f4"), "table"),
        "input_ids",
        name="y",
    )
    model, ids = b.model(y=["n", "m", 96]), rng.integers(0, 1300, (3, 5))
    small, facts = quantize_graph(model, replace(FOUR, rounding="nearest"), [])
    assert [node.op_type for node in small.graph] == ["GatherBlockQuantized"]
    got = run(small, input_ids=ids)["y:0"]
    assert (got == run(dequantized(small), input_ids=ids)["y:0"]).all()
    wanted = run(model, input_ids=ids)["y:0"]
    (table,) = facts["embeddings"]
    assert table["bytes"] == 1300 * (48 + 3 * 4 + 2)
    relative = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    assert relative == pytest.approx(table["error"], rel=0.1)
    assert relative < 0.12


@pytest.mark.parametrize(("width", "twice"), [(40, False), (64, True)])
def test_a_table_that_no_one_product_can_share_stays_in_8_bits(
    builder: Any, run: Any, rng: np.random.Generator, width: int, twice: bool
) -> None:
    model, ids = tied(builder, rng, width, twice=twice), rng.integers(0, 1200, (2, 9))
    small, facts = quantize_graph(model, FOUR, [{"input_ids": ids}])
    assert "GatherBlockQuantized" not in [node.op_type for node in small.graph]
    assert not any("form" in table for table in facts["embeddings"])
    got, wanted = (run(m, input_ids=ids)["logits:0"] for m in (small, model))
    assert cosine(got, wanted) > 0.98
