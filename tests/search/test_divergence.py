"""The divergence that a search asks for is the ledger's, of the tokens that count."""

from __future__ import annotations

import numpy as np
import pytest

from edgetfm.parity import Comparison
from edgetfm.search.divergence import Divergence
from edgetfm.task import Output


def test_it_is_what_the_ledger_would_say() -> None:
    rng = np.random.default_rng(0)
    masks = [np.array([[1, 1, 1], [1, 0, 0]]), np.array([[1, 1]])]
    truth = [{"logits": rng.normal(0, 3, (*m.shape, 50)).astype("f4")} for m in masks]
    feeds = [{"input_ids": np.zeros_like(m), "attention_mask": m} for m in masks]
    answers = [{"logits": t["logits"] + rng.normal(size=50).astype("f4")} for t in truth]
    far = Divergence("logits", truth, feeds)
    wanted = Comparison([Output("logits", "logits", per_token=True)])
    for got, true, mask in zip(answers, truth, masks, strict=True):
        wanted.add(got, true, mask)
    assert far.of(iter(answers)) == pytest.approx(wanted.measures()["logits"].kl, rel=1e-4)
    assert far.of(truth) == pytest.approx(0, abs=1e-6)


def test_logits_far_from_zero_do_not_overflow() -> None:
    mask, truth = np.ones((1, 1), np.int64), np.array([[[1e4, 0.0, -1e4]]], "f4")
    far = Divergence("logits", [{"logits": truth}], [{"attention_mask": mask}])
    assert far.of([{"logits": truth + 5e3}]) == 0
    assert far.of([{"logits": -truth}]) == pytest.approx(2e4)
