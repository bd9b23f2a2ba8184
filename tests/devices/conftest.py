"""The ViT that several files ask about."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetfm.training import train


@pytest.fixture(scope="session")
def digits_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT that reads digits, trained here in a quarter of a minute."""
    return train("vit-digits", tmp_path_factory.mktemp("digits") / "checkpoint").checkpoint
