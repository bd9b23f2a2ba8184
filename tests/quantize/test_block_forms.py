"""Several forms of blocks, decided while a model is observed once, are those decided alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgetfm.quantize import RECIPES, observe, quantize_graph
from edgetfm.quantize.block_forms import block_sizes, weights_in_blocks
from edgetfm.quantize.plan import Memo
from tests.quantize.test_weight_only import batches, mlp

FOUR = replace(RECIPES["int4"], table_bits=4, block_size=64)
EIGHT = replace(FOUR, by_block=("up", "down"))
MIXED = replace(FOUR, by_block=("down",))


@pytest.fixture
def observations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every time that a model is observed."""
    from edgetfm.quantize import apply

    seen: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        seen.append(1)
        return observe.observe(*arguments, **options)

    monkeypatch.setattr(apply, "observe", counted)
    return seen


def test_forms_that_are_decided_together_are_those_decided_alone(
    builder: Any, rng: np.random.Generator, observations: list[int]
) -> None:
    model, feeds = mlp(builder, rng), batches(rng)
    together = weights_in_blocks(model, [FOUR, EIGHT], feeds, memo=Memo())
    assert len(observations) == 1
    for recipe, found in zip((FOUR, EIGHT), together, strict=True):
        (alone,) = weights_in_blocks(model, [recipe], feeds, memo=Memo())
        assert set(found) == set(alone) == {"up", "down"}
        for name, weight in found.items():
            assert weight.error == alone[name].error
            assert np.array_equal(weight.blocks.packed, alone[name].blocks.packed)
            assert np.array_equal(weight.blocks.scale, alone[name].blocks.scale)


def test_a_mix_of_forms_that_are_known_is_made_without_looking_again(
    builder: Any, rng: np.random.Generator, observations: list[int]
) -> None:
    """Products that read one activation may each have another form."""
    b = builder(x=["n", 64])
    one, two = (b.linear("x", rng.normal(size=(64, 32)).astype("f4"), None, n) for n in "ab")
    b("Add", one, two, name="sum")
    model, feeds = b.model(sum=["n", 32]), batches(rng)
    memo, mixed = Memo(), replace(FOUR, by_block=("b",))
    weights_in_blocks(model, [FOUR, replace(FOUR, by_block=("a", "b"))], feeds, memo=memo)
    made, facts = quantize_graph(model, mixed, feeds, memo=memo)
    assert len(observations) == 1
    forms = {node["node"]: node["form"] for node in facts["nodes"]}
    assert forms == {"a": "4-bit blocks of 64", "b": "8-bit blocks of 64"}
    alone, _ = quantize_graph(model, mixed, feeds)
    for name, value in alone.graph.initializers.items():
        assert np.array_equal(
            value.const_value.numpy(), made.graph.initializers[name].const_value.numpy()
        )


def test_sizes_that_make_the_same_graph_are_one(builder: Any, rng: np.random.Generator) -> None:
    """Of 100 and 128 inputs the second have blocks of 128; a model of 64 has none."""
    assert block_sizes(mlp(builder, rng), FOUR, [128, 64, 32]) == [128, 64, 32]
    b = builder(x=["n", 64])
    b.linear("x", rng.normal(size=(64, 32)).astype("f4"), None, "only")
    assert block_sizes(b.model(only=["n", 32]), FOUR, [128, 64]) == [64]
