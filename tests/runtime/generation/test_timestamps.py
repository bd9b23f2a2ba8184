"""Times in a text obey Whisper's rules as transformers has them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from edgetfm.runtime.generation.timestamps import Certainty, Timestamps

WORDS, END, START, WITHOUT = 6, 6, 7, 8
TIMES = 12
RULE = Timestamps(begin=WITHOUT + 1, without=WITHOUT, end=END, latest=4)
TOKENS = st.one_of(st.integers(0, WORDS - 1), st.integers(RULE.begin, RULE.begin + TIMES - 2))


@settings(max_examples=150)
@given(said=st.lists(TOKENS, max_size=6), seed=st.integers(0, 99), times=st.floats(-4.0, 4.0))
def test_it_forbids_what_transformers_forbids(said: list[int], seed: int, times: float) -> None:
    scores = np.random.default_rng(seed).normal(size=RULE.begin + TIMES).astype(np.float32)
    scores[RULE.begin :] += np.float32(times)
    config = SimpleNamespace(
        no_timestamps_token_id=WITHOUT, eos_token_id=END, bos_token_id=START,
        max_initial_timestamp_index=RULE.latest,
    )  # fmt: skip
    processor = WhisperTimeStampLogitsProcessor(config, begin_index=1)
    with torch.inference_mode():
        wanted = processor(torch.tensor([[START, *said]]), torch.from_numpy(scores[None].copy()))
    RULE(scores, [START], said, 9)
    np.testing.assert_array_equal(scores, wanted[0].numpy())


def test_certainty_is_the_mean_log_probability() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(3, 5)).astype(np.float32)
    rows[1, 2] = -np.inf
    said, certainty = [4, 0, 1], Certainty()
    for at, scores in enumerate(rows):
        certainty(scores, [0], said[:at], 9)
    wanted = torch.log_softmax(torch.from_numpy(rows), -1)[range(3), said].mean()
    assert certainty.mean(said) == pytest.approx(float(wanted), rel=1e-6)
    assert Certainty().mean([]) == 0.0
