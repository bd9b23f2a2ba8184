"""What a source says was left out, in the names of its own checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgetfm.sources import open_source

TinyHF = Callable[..., Path]


@pytest.mark.parametrize(
    ("made_for", "opened_for", "left_out"),
    [
        ("feature-extraction", "feature-extraction", "pooler"),
        ("text-classification", "feature-extraction", "bert.pooler, classifier"),
        ("fill-mask", "feature-extraction", "cls"),
    ],
)
def test_weights_without_use_go_by_the_checkpoints_own_names(
    made_for: str, opened_for: str, left_out: str, tiny_hf: TinyHF, tmp_path: Path
) -> None:
    folder = tiny_hf("bert", made_for, tmp_path / "model")
    notes = open_source(folder, task=opened_for).notes
    assert notes[0] == f"{opened_for} has no use for these weights: {left_out}"


def test_a_model_whose_every_weight_is_used_says_nothing(tiny_hf: TinyHF, tmp_path: Path) -> None:
    assert not open_source(tiny_hf("bert", "question-answering", tmp_path / "model")).notes
