"""One graph that answers as every mix of 4 and 8 bits would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.block_board import BlockBoard
from edgetfm.quantize.plan import Memo
from edgetfm.quantize.search import Effect, find_sensitive
from tests.quantize.test_weight_only import batches, mlp, tied

FOUR = replace(RECIPES["int4"], table_bits=4)


@pytest.mark.parametrize("kept", [(), ("up",), ("down",), ("up", "down")])
def test_the_board_answers_as_the_graph_of_that_recipe(
    builder: Any, run: Any, rng: np.random.Generator, kept: tuple[str, ...]
) -> None:
    model, feeds = mlp(builder, rng), batches(rng)
    memo = Memo()
    alone, _ = quantize_graph(model, replace(FOUR, by_block=kept), feeds, memo=memo)
    with BlockBoard(model, FOUR, feeds, memo=memo) as board:
        assert board.names == ["up", "down"]
        got = board.run(feeds[0], kept)["down:0"]
    wanted = run(alone, **feeds[0])["down:0"]
    assert np.abs(got - wanted).max() < 0.01 * np.abs(wanted).max()


def test_costs_are_shares_of_the_bytes_that_8_bits_add(
    builder: Any, rng: np.random.Generator
) -> None:
    board = BlockBoard(mlp(builder, rng), replace(FOUR, rounding="nearest"), [])
    assert sum(board.costs.values()) == pytest.approx(1)
    up, down = (8 * (64 * 100 // 2), 8 * (128 * 48 // 2))  # 100 inputs take blocks for 128
    assert board.costs["up"] == pytest.approx(up / (up + down), abs=0.05)


def test_the_product_that_hurts_most_for_its_bytes_is_found(
    builder: Any, rng: np.random.Generator
) -> None:
    """One input in 32 has huge weights in the first product: 4 bits lose all beside them."""
    b = builder(x=["n", 64])
    first = rng.normal(size=(64, 64)).astype("f4")
    first[::32] *= 300
    h = b.linear("x", first, None, "first")
    b.linear(b("Tanh", h), rng.normal(size=(64, 64)).astype("f4"), None, "second")
    model = b.model(second=["n", 64])
    feeds = [{"x": x["x"] * (np.arange(64) % 32 > 0)} for x in batches(rng)]
    board = BlockBoard(model, replace(FOUR, rounding="nearest"), [])
    with board:
        truth = [board.run(batch, {"first", "second"})["second:0"] for batch in feeds]

        def measure(kept: frozenset[str]) -> Effect:
            answers = [board.run(batch, kept)["second:0"] for batch in feeds]
            errors = [np.abs(a - t).mean() for a, t in zip(answers, truth, strict=True)]
            return Effect(float(np.mean(errors)), float(np.mean(errors)))

        found = find_sensitive(board.names, board.costs, measure, target=1.0)
    assert found.order[0] == "first"
    assert found.kept == ("first",)


@pytest.mark.parametrize("kept", [(), ("logits",)])
def test_a_tied_head_is_switched_and_its_table_with_it(
    builder: Any, run: Any, rng: np.random.Generator, kept: tuple[str, ...]
) -> None:
    """The one table is read in 8 bits where the head is, as in the graph that ships."""
    model, ids = tied(builder, rng, 64), rng.integers(0, 1200, (2, 9))
    recipe = replace(FOUR, rounding="nearest")
    alone, _ = quantize_graph(model, replace(recipe, by_block=kept), [])
    wanted = run(alone, input_ids=ids)["logits:0"]
    with BlockBoard(model, recipe, []) as board:
        assert board.names == ["logits"]
        got, other = (
            board.run({"input_ids": ids}, k)["logits:0"] for k in (kept, {"logits"} - {*kept})
        )
    assert np.abs(got - wanted).max() < 0.01 * np.abs(wanted).max()
    assert np.abs(other - wanted).max() > 0.05 * np.abs(wanted).max()


def test_the_bytes_of_both_forms_are_those_of_the_graphs(
    builder: Any, rng: np.random.Generator
) -> None:
    model, recipe = tied(builder, rng, 64), replace(FOUR, rounding="nearest")
    board = BlockBoard(model, recipe, [])
    for bits, kept in enumerate(((), ("logits",))):
        _, facts = quantize_graph(model, replace(recipe, by_block=kept), [])
        assert board.bytes["logits"][bits] == facts["bytes_in_blocks"]
