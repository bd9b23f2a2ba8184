from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgetfm.quantize import RECIPES, quantize_graph

ROWS, WIDTH = 1200, 32


def lookup(builder: Any, rng: np.random.Generator, *, tied: bool) -> ir.Model:
    b = builder(input_ids=["n", "m"])
    table = b.constant(
        (rng.normal(size=(ROWS, WIDTH)) * rng.uniform(0.1, 9, (ROWS, 1))).astype("f4")
    )
    h = b("Gather", table, "input_ids", name="words")
    if not tied:
        return b.model(words=["n", "m", WIDTH])
    b("MatMul", b("Relu", h), b("Transpose", table, perm=[1, 0]), name="logits")
    return b.model(logits=["n", "m", ROWS])


def test_each_row_has_its_own_scale(builder: Any, run: Any, rng: np.random.Generator) -> None:
    model, ids = lookup(builder, rng, tied=False), np.arange(ROWS)[None]
    int8, facts = quantize_graph(model, RECIPES["int8"], [{"input_ids": ids}])
    got, wanted = (run(m, input_ids=ids)["words:0"][0] for m in (int8, model))
    steps = np.abs(wanted).max(axis=1, keepdims=True) / 127
    assert (np.abs(got - wanted) <= steps * 0.51).all()
    (entry,) = facts["embeddings"]
    assert (entry["table"], entry["shape"]) == ("constant_0", [ROWS, WIDTH])
    assert 0.001 < entry["error"] < 0.01


def test_a_tied_table_is_stored_once(builder: Any, run: Any, rng: np.random.Generator) -> None:
    model = lookup(builder, rng, tied=True)
    ids = rng.integers(0, ROWS, (2, 9))
    int8, facts = quantize_graph(model, RECIPES["int8"], [{"input_ids": ids}])
    large = [v for v in int8.graph.initializers.values() if v.const_value.nbytes > ROWS * 8]
    assert [v.dtype for v in large] == [ir.DataType.INT8]
    assert facts["matrix_products_in_int8"] == 1
    got, wanted = (run(m, input_ids=ids)["logits:0"] for m in (int8, model))
    assert (got.argmax(-1) == wanted.argmax(-1)).all()
    assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.9999


def test_a_small_table_and_one_that_is_used_in_float_stay(
    builder: Any, rng: np.random.Generator
) -> None:
    b = builder(input_ids=["n", "m"])
    small = b.constant(rng.normal(size=(64, WIDTH)).astype("f4"))
    large = b.constant(rng.normal(size=(ROWS, WIDTH)).astype("f4"), "large")
    h = b("Add", b("Gather", small, "input_ids"), b("Gather", large, "input_ids"))
    b("Add", h, b("ReduceMax", large, b.constant(np.array([0])), keepdims=0), name="y")
    ids = rng.integers(0, 64, (1, 5))
    int8, facts = quantize_graph(
        b.model(y=["n", "m", WIDTH]), RECIPES["int8"], [{"input_ids": ids}]
    )
    assert all(v.dtype != ir.DataType.INT8 for v in int8.graph.initializers.values())
    assert facts["embeddings"] == [{"table": "large", "left_in_float": "it is also used in float"}]
