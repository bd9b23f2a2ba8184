"""Decisions are made, and told, for the grids that the activations will have."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.linear import find_linears
from edgetfm.quantize.observe import Activation
from edgetfm.quantize.plan import Memo, Plan

INT8 = replace(RECIPES["int8-static"], smoothing=(), min_gain=1.0)
A16 = replace(RECIPES["a16w8"], scope="products")


def one_product(builder: Any, rng: np.random.Generator) -> ir.Model:
    b = builder(x=["n", 32])
    b.linear("x", rng.normal(size=(32, 24)).astype("f4"), name="y")
    model: ir.Model = b.model(y=["n", 24])
    return model


def correlated(rng: np.random.Generator, sizes: float = 60) -> Any:
    """Rows of few directions, some `sizes` times as large as others: 8 bits serve these badly."""
    x = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 32))
    return (x * np.geomspace(1, sizes, len(x))[:, None]).astype("f4")


def relative(got: Any, wanted: Any) -> float:
    """The root of the mean over rows of the squared error, relative to the row."""
    return float(np.sqrt((np.square(got - wanted).sum(1) / np.square(wanted).sum(1)).mean()))


@pytest.mark.parametrize("recipe", [INT8, A16], ids=["int8-static", "a16w8"])
def test_the_error_that_is_told_is_the_error_that_is_made(
    builder: Any, run: Any, rng: np.random.Generator, recipe: Any
) -> None:
    model, x = one_product(builder, rng), correlated(rng)
    made, facts = quantize_graph(model, recipe, [{"x": row[None]} for row in x])
    measured = relative(run(made, x=x)["y:0"], run(model, x=x)["y:0"])
    assert facts["nodes"][0]["error"] == pytest.approx(measured, rel=0.1)


def test_fine_activations_leave_compensation_its_use(
    builder: Any, rng: np.random.Generator
) -> None:
    """Taken for those of 8 bits, their noise would hide how the inputs go together."""
    model, x = one_product(builder, rng), correlated(rng, sizes=300)
    linears, left = find_linears(model)
    weight, errors = linears[0].matrix(), {}
    for rounding in ("nearest", "compensated"):
        plan = Plan(model, replace(A16, rounding=rounding), linears, Facts(linears, left))
        seen = Activation.empty(weight.shape[0], gram=True)
        for row in x:
            seen.add(row[None])
        seen.settle()
        made = plan.decide(linears, seen).weights[0].weight.dequantized()
        errors[rounding] = relative(x @ made, x @ weight)
    assert errors["compensated"] < 0.3 * errors["nearest"]


def test_a_memo_does_not_give_one_precision_the_decisions_of_another(
    builder: Any, rng: np.random.Generator
) -> None:
    model, feeds, memo = one_product(builder, rng), [{"x": correlated(rng)}], Memo()
    facts = {}
    for recipe in (INT8, A16):
        _, facts[recipe.name] = quantize_graph(model, recipe, feeds, memo=memo)
        _, alone = quantize_graph(model, recipe, feeds)
        assert facts[recipe.name]["nodes"] == alone["nodes"]
    assert facts["int8-static"]["nodes"] != facts["a16w8"]["nodes"]


@pytest.mark.parametrize("smoothing", [(), (0.5, 0.75)], ids=["plain", "smoothed"])
def test_a_vocabulary_of_outputs_is_judged_by_some_tokens(
    builder: Any, rng: np.random.Generator, smoothing: tuple[float, ...]
) -> None:
    words, tokens = 100_000, 1024
    weight = rng.normal(size=(8, words)).astype("f4")
    items = np.split(rng.normal(size=(tokens, 8)).astype("f4"), 16)
    recipe = replace(RECIPES["int8"], smoothing=smoothing, rounding="nearest")
    errors: list[Any] = []
    peaks = []
    for part in (weight, weight[:, :1000]):
        b = builder(x=["n", 8])
        b.linear("x", part, name="y")
        model = b.model(y=["n", part.shape[1]])
        linears, left = find_linears(model)
        plan, seen = (
            Plan(model, recipe, linears, Facts(linears, left)),
            Activation.empty(8, gram=False),
        )
        for rows in items:
            seen.add(rows)
        tracemalloc.start()
        errors += plan.decide(linears, seen).errors
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < tokens * words * 4 / 4
    assert errors[0] == pytest.approx(errors[1], rel=0.1)  # few words are judged by all tokens
