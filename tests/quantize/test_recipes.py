from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgetfm.errors import InputError
from edgetfm.manifest import SUFFIXES
from edgetfm.quantize import RECIPES, Recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_its_json(name: str) -> None:
    recipe = replace(RECIPES[name], keep_float=("a/MatMul",))
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert recipe.precision in SUFFIXES


def test_all_that_is_wrong_with_a_recipe_is_said_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Recipe.from_json({"name": "mine", "precision": "int3", "smoothing": [2], "colour": "red"})
    for word in ("precision cannot be 'int3'", "smoothing cannot be", "unknown field 'colour'"):
        assert word in str(caught.value)


def test_a_recipe_must_be_an_object_with_a_name() -> None:
    with pytest.raises(InputError, match="missing field 'name'"):
        Recipe.from_json({"precision": "int8"})
    with pytest.raises(InputError, match="this is list"):
        Recipe.from_json([])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            ("name", name)
            for name in ("", "n" * 101, "\ud800", "a\n", "../a", "a\\b", "a\u202e", 5)
        ],
        *[("keep_float", ["a", "\ud800"]), ("by_block", "a"), ("pair_safe", [1])],
        *[("block_size", size) for size in (32.0, True, 33, [32])],
        *[("min_gain", gain) for gain in (10**400, float("inf"), float("nan"), True, 0.5)],
        *[("smoothing", [0.5] * 101), ("smoothing", [10**400]), ("smoothing", [float("nan")])],
        *[("precision", ["int8"]), ("\ud800", 1), ("c" * 5000, 1)],
    ],
)
def test_what_no_recipe_can_hold_is_refused_in_words_that_can_be_shown(
    field: str, value: object
) -> None:
    given = {"name": "mine", "precision": "int8", "rounding": "up", field: value}
    with pytest.raises(InputError, match="rounding cannot be 'up'") as caught:
        Recipe.from_json(given)
    said = str(caught.value).encode().decode()
    assert "unknown field" in said or f"{field} cannot be" in said
    assert len(said) < 300


def test_nodes_may_have_any_name_that_is_text() -> None:
    given = {"name": "mine", "precision": "int8", "keep_float": ["a\n\u202e/../b"]}
    assert Recipe.from_json(given).keep_float == ("a\n\u202e/../b",)
