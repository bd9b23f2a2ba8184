"""The switchboard answers as the int8 graph, as the float graph, or as anything in between."""

from __future__ import annotations

import numpy as np
import pytest

from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.plan import Memo
from edgetfm.quantize.switchboard import Switchboard


@pytest.fixture
def graph(builder, rng):
    """Two layers with a norm between, into which smoothing folds; the first has a large channel."""
    b = builder(x=["batch", 16])
    first = b.linear("x", rng.normal(size=(16, 24)).astype("f4"), rng.normal(size=24).astype("f4"))
    norm = b(
        "LayerNormalization",
        first,
        b.constant(np.where(np.arange(24) == 5, 30, 1).astype("f4")),
        b.constant(np.zeros(24, "f4")),
    )
    last = b.linear(norm, rng.normal(size=(24, 8)).astype("f4"), name="last")
    return b.model(**{last.removesuffix(":0"): ["batch", 8]}), last


def test_it_answers_as_the_graph_that_would_be_made(graph, run, rng) -> None:
    model, name = graph
    feeds = [{"x": rng.normal(size=(4, 16)).astype("f4")} for _ in range(8)]
    memo = Memo()
    made, facts = quantize_graph(model, RECIPES["int8"], feeds, memo=memo)
    assert any("folded" in node.get("smoothing", "") for node in facts["nodes"])
    known = len(memo.decisions)
    with Switchboard(model, RECIPES["int8"], feeds, memo=memo) as board:
        assert len(memo.decisions) == known  # nothing was decided again
        assert sum(board.costs.values()) == pytest.approx(1.0)
        wanted = run(made, **feeds[0])[name]
        np.testing.assert_allclose(board.run(feeds[0], ())[name], wanted, rtol=1e-4, atol=1e-4)
        real = run(model, **feeds[0])[name]
        np.testing.assert_allclose(board.run(feeds[0], board.names)[name], real, rtol=1e-5)
        half = board.run(feeds[0], board.names[:1])[name]
        assert np.abs(half - real).max() > 1e-4
        assert np.abs(half - wanted).max() > 1e-4


def test_the_model_is_not_changed(graph) -> None:
    model, _ = graph
    before = [node.op_type for node in model.graph]
    Switchboard(model, RECIPES["int8"], [{"x": np.ones((1, 16), "f4")}])
    assert [node.op_type for node in model.graph] == before
    assert [v.name for v in model.graph.inputs] == ["x"]
