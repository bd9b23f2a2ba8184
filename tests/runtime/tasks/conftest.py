"""Tiny models of pictures, as bundles without a proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.adapter.conftest import tiny_of_type as tiny_of_type
from tests.adapter.rows import model_types
from tests.plain import Exported, export_plain

Tiny = Callable[[str], Exported]


@pytest.fixture(scope="session")
def tiny(
    tiny_of_type: Callable[[str, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Tiny:
    """tiny(row): the model of a row of model_types.toml and the bundle made of it, once."""
    made: dict[str, Exported] = {}

    def get(row: str) -> Exported:
        if row not in made:
            folder = tmp_path_factory.mktemp(row)
            source = tiny_of_type(row, folder / "source")
            made[row] = export_plain(source, folder / "bundle", model_types()[row]["task"])
        return made[row]

    return get
