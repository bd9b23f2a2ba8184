"""Recipes that were kept: a file, or the bundle that one made, makes the same bundle again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetfm.errors import InputError
from edgetfm.manifest import MANIFEST
from edgetfm.quantize import Recipe
from edgetfm.runtime.tuning import CANDIDATES


@dataclass(frozen=True)
class KeptRecipe:
    """A recipe, and what its bundle says beside it: None where only the recipe was kept."""

    recipe: Recipe
    session: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    budget: str | None = None

    def differences(self, calibration: Mapping[str, Any]) -> list[str]:
        """Notes on why the graph will not be the same byte for byte: other calibration data."""
        if self.calibration is None or self.calibration.get("sha256") == calibration.get("sha256"):
            return []
        count, name = (f"{self.calibration.get(key)!s:.100}" for key in ("count", "name"))
        return [
            f"the recipe was made with {count} items of {name.encode('utf-8', 'replace').decode()}"
            ", not with these: the weights will differ"
        ]


def read_recipe(path: Path) -> KeptRecipe:
    """The recipe in a .json file, an edgetfm.json or a bundle: that of its default variant.

    Raises InputError for anything else, and for a bundle that ships in float32.
    """
    file = path / MANIFEST if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give a recipe's .json or a quantized bundle"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(data, dict) or "components" not in data:
        return KeptRecipe(Recipe.from_json(data))
    try:
        default = data["default"]
        component = next(iter(data["components"].values()))  # all are made by one recipe
        recipe = component["variants"][default]["recipe"]
        session, calibration, budget = (data.get(k) for k in ("session", "calibration", "budget"))
    except (AttributeError, KeyError, StopIteration, TypeError) as error:
        raise InputError(f"{file} is malformed: {type(error).__name__} {error}") from error
    if not recipe:
        raise InputError(f"{path} ships {default}, which no recipe made: give a quantized bundle")
    known = [dict(settings) for settings in CANDIDATES.values()]
    if session not in (None, *known):
        raise InputError(f"{file} has session settings that edgetfm does not choose: {session}")
    return KeptRecipe(
        Recipe.from_json(recipe),
        session,
        calibration if isinstance(calibration, dict) else None,
        budget if isinstance(budget, str) and budget else None,
    )
