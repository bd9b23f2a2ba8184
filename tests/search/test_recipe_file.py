"""Recipes that were kept, and what is said where other data is given with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetfm.errors import InputError
from edgetfm.quantize import RECIPES
from edgetfm.search.recipe_file import read_recipe


def kept(path: Path, **more: Any) -> Path:
    """A manifest with the recipe of its default variant."""
    variants = {"int8": {"recipe": RECIPES["int8"].to_json()}}
    manifest = {"components": {"model": {"variants": variants}}, "default": "int8"} | more
    path.write_text(json.dumps(manifest))
    return path


@pytest.mark.parametrize("name", ["\ud800", "n" * 5000, [1], None])
def test_other_calibration_data_is_said_in_words_that_can_be_written(
    name: Any, tmp_path: Path
) -> None:
    given = {"name": name, "count": {}, "sha256": [1]}
    found = read_recipe(kept(tmp_path / "edgetfm.json", calibration=given))
    assert found.recipe == RECIPES["int8"]
    (note,) = found.differences({"sha256": "0"})
    assert "the weights will differ" in note.encode().decode()
    assert len(note) < 300


def test_a_manifest_whose_recipe_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="malformed"):
        read_recipe(kept(tmp_path / "a.json", components=[]))
    with pytest.raises(InputError, match="malformed"):
        read_recipe(kept(tmp_path / "b.json", default="fp32"))
    (tmp_path / "c.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="is not JSON"):
        read_recipe(tmp_path / "c.json")
