"""A model that is asked part by part answers as it does in one piece, and keeps no weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgetfm.sources import _piecewise, eager, open_source
from edgetfm.sources._piecewise import parameters_on_meta


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gemma3_text"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("some", [_piecewise.SLICE, 10_000])
def test_part_by_part_the_answers_are_the_same(
    model_type: str,
    tied: bool,
    some: int,
    tiny_decoder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny_decoder(model_type, tmp_path, tie_word_embeddings=tied)
    ids = np.random.default_rng(1).integers(5, 300, (2, 9))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    whole = open_source(folder)
    assert not any("part by part" in note for note in whole.notes)
    wanted = whole.reference()(feeds)["logits"]
    monkeypatch.setattr(_piecewise, "LARGE", 0)
    monkeypatch.setattr(_piecewise, "SLICE", some)
    large = open_source(folder)
    assert any("part by part" in note for note in large.notes)
    asked = large.reference()(feeds)["logits"]
    np.testing.assert_allclose(asked, wanted, rtol=0, atol=0 if some > 10_000 else 1e-5)
    module = large.module()
    got = eager(module)(feeds)["logits"]
    np.testing.assert_allclose(got, eager(whole.module())(feeds)["logits"], rtol=0, atol=1e-5)
    loaded = {n for n, p in module.named_parameters() if not p.is_meta}
    assert loaded == ({"words.weight"} if tied else set())


def test_parameters_are_made_as_ever_afterwards() -> None:
    from torch import nn

    with parameters_on_meta():
        assert nn.Linear(3, 2).weight.is_meta
        assert not nn.BatchNorm1d(3).running_mean.is_meta
    assert not nn.Linear(3, 2).weight.is_meta
