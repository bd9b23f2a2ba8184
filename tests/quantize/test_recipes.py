from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgetfm.bundle import SUFFIXES
from edgetfm.errors import InputError
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
