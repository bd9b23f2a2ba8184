from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.quantize.edit import Editor
from edgetfm.quantize.folding import IntoColumns, IntoNorm, apply_fold, find_fold
from edgetfm.quantize.linear import find_linears

HEADS, WIDTH = 2, 8


def attention(builder: Any, rng: np.random.Generator, layout: str) -> ir.Model:
    """One layer of attention with packed query, key and value, in the layouts exporters use."""
    b = builder(x=["n", "m", WIDTH])
    size = WIDTH // HEADS
    weight, bias = rng.normal(size=(WIDTH, 3 * WIDTH)).astype("f4"), rng.normal(size=3 * WIDTH)
    qkv = b.linear("x", weight, bias.astype("f4"), name="qkv")
    if layout == "split first":
        heads = b.constant(np.array([0, 0, HEADS, size]))
        parts = [b("Reshape", part, heads) for part in b.split(qkv, 2, 3)]
        q, k, v = (b("Transpose", part, perm=[0, 2, 1, 3]) for part in parts)
    elif layout == "heads first":
        all_heads = b("Reshape", qkv, b.constant(np.array([0, 0, 3 * HEADS, size])))
        q, k, v = b.split(b("Transpose", all_heads, perm=[0, 2, 1, 3]), 1, 3)
    else:  # sequence first: tokens are the first axis until the end
        turned = b("Transpose", qkv, perm=[1, 0, 2])
        heads = b.constant(np.array([0, 0, HEADS, size]))
        parts = [b("Reshape", part, heads) for part in b.split(turned, 2, 3)]
        q, k, v = (b("Transpose", part, perm=[1, 2, 0, 3]) for part in parts)
    scores = b("Softmax", b("MatMul", q, b("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    mixed = b("Transpose", b("MatMul", scores, v), perm=[0, 2, 1, 3])
    mixed = b("Reshape", mixed, b.constant(np.array([0, 0, WIDTH])), name="mixed")
    b.linear(mixed, rng.normal(size=(WIDTH, WIDTH)).astype("f4"), name="out")
    return b.model(mixed=["n", "m", WIDTH], out=["n", "m", WIDTH])


@pytest.mark.parametrize("layout", ["split first", "heads first", "sequence first"])
def test_the_scale_behind_attention_moves_into_the_values_columns(
    builder: Any, run: Any, rng: np.random.Generator, layout: str
) -> None:
    model = attention(builder, rng, layout)
    model.graph.outputs.pop(0)  # 'mixed' must have no other reader to be scaled
    linears, _ = find_linears(model)
    out = linears[1]
    fold = find_fold(out.x, [out], linears)
    assert isinstance(fold, IntoColumns)
    assert fold.columns.tolist() == list(range(2 * WIDTH, 3 * WIDTH))

    x = rng.normal(size=(2, 5, WIDTH)).astype("f4")
    model.graph.outputs.append(out.x)
    before = run(model, x=x)["mixed:0"]
    scale = rng.uniform(0.5, 4, WIDTH).astype("f4")
    editor = Editor(model)
    apply_fold(editor, fold, scale)
    editor.finish()
    np.testing.assert_allclose(run(model, x=x)["mixed:0"] * scale, before, rtol=1e-5, atol=1e-6)


def test_a_norm_that_feeds_only_products_takes_the_scale(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", 8])
    gain, bias = rng.normal(size=8).astype("f4"), rng.normal(size=8).astype("f4")
    h = b("LayerNormalization", "x", b.constant(gain), b.constant(bias), name="norm")
    b.linear(h, np.eye(8, dtype="f4"), name="a")
    model = b.model(a=["n", 8])
    linears, _ = find_linears(model)
    fold = find_fold(linears[0].x, linears, linears)
    assert isinstance(fold, IntoNorm)
    x, scale = rng.normal(size=(3, 8)).astype("f4"), rng.uniform(0.5, 4, 8).astype("f4")
    before = run(model, x=x)["a:0"]
    editor = Editor(model)
    apply_fold(editor, fold, scale)
    editor.finish()
    np.testing.assert_allclose(run(model, x=x)["a:0"] * scale, before, rtol=1e-5, atol=1e-6)


def test_a_relu_lets_the_scale_through_and_a_gelu_does_not(
    builder: Any, rng: np.random.Generator
) -> None:
    for operator, folds in (("Relu", True), ("Erf", False)):
        b = builder(x=["n", 8])
        h = b.linear("x", rng.normal(size=(8, 8)).astype("f4"), np.ones(8, "f4"), name="up")
        b.linear(b(operator, h), rng.normal(size=(8, 8)).astype("f4"), name="down")
        linears, _ = find_linears(b.model(down=["n", 8]))
        fold = find_fold(linears[1].x, [linears[1]], linears)
        assert isinstance(fold, IntoColumns) == folds


def test_an_activation_with_another_reader_is_not_folded(
    builder: Any, rng: np.random.Generator
) -> None:
    """Post-norm: the residual reads the norm as well, and must not be scaled."""
    b = builder(x=["n", 8])
    ones = b.constant(np.ones(8, "f4"))
    h = b("LayerNormalization", "x", ones, b.constant(np.zeros(8, "f4")))
    b("Add", h, b.linear(h, np.eye(8, dtype="f4")), name="residual")
    linears, _ = find_linears(b.model(residual=["n", 8]))
    assert find_fold(linears[0].x, linears, linears) is None


def test_columns_that_something_else_reads_are_not_folded(
    builder: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", 8])
    h = b.linear("x", rng.normal(size=(8, 8)).astype("f4"), np.ones(8, "f4"), name="up")
    r = b("Relu", h)
    b("Add", b.linear(r, rng.normal(size=(8, 8)).astype("f4")), h, name="sum")
    linears, _ = find_linears(b.model(sum=["n", 8]))
    assert find_fold(linears[1].x, [linears[1]], linears) is None


def test_fewer_keys_than_queries_leave_the_scale_where_it_is(
    builder: Any, rng: np.random.Generator
) -> None:
    """The values' tokens are not the output's, so a Reshape behind fits none of their sizes."""
    b = builder(x=["n", 6, WIDTH], y=["n", 3, WIDTH])
    v = b.linear("y", rng.normal(size=(WIDTH, WIDTH)).astype("f4"), name="v")
    scores = b("Softmax", b("MatMul", "x", b("Transpose", "y", perm=[0, 2, 1])), axis=-1)
    mixed = b("Reshape", b("MatMul", scores, v), b.constant(np.array([0, 6, WIDTH])))
    b.linear(mixed, rng.normal(size=(WIDTH, WIDTH)).astype("f4"), name="out")
    linears, _ = find_linears(b.model(out=["n", 6, WIDTH]))
    assert find_fold(linears[1].x, [linears[1]], linears) is None
