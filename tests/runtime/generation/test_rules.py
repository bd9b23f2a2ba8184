"""The rules of a generation_config.json mean what transformers' logits processors do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as theirs

from edgetfm.errors import BundleError
from edgetfm.runtime.generation.rules import Rules

VOCABULARY = 12
TOKENS = st.integers(0, VOCABULARY - 1)


@settings(max_examples=60)
@given(
    config=st.fixed_dictionaries(
        {},
        optional={
            "no_repeat_ngram_size": st.integers(1, 3),
            "bad_words_ids": st.lists(st.lists(TOKENS, min_size=1, max_size=3), min_size=1),
            "forced_bos_token_id": TOKENS,
            "forced_eos_token_id": TOKENS,
            "suppress_tokens": st.lists(TOKENS, max_size=3),
            "begin_suppress_tokens": st.lists(TOKENS, max_size=3),
        },
    ),
    prompt=st.lists(TOKENS, min_size=1, max_size=2),
    said=st.lists(st.integers(0, 3), max_size=8),
    room=st.integers(1, 3),
)
def test_they_leave_the_scores_that_transformers_leaves(
    config: dict[str, Any], prompt: list[int], said: list[int], room: int
) -> None:
    scores = np.linspace(-3.0, 2.0, VOCABULARY, dtype=np.float32)
    wanted = torch.from_numpy(scores[None].copy())
    tokens = torch.tensor([[*prompt, *said]])
    for processor in processors(config, len(prompt), tokens.shape[1] + room):
        wanted = processor(tokens, wanted)
    Rules.of_model(config, eos=[1])(scores, prompt, said, room)
    np.testing.assert_array_equal(scores, wanted[0].numpy())


def processors(config: dict[str, Any], prompt: int, longest: int) -> list[Any]:
    """What generate() makes of a config, in its order."""
    found: list[Any] = []
    if size := config.get("no_repeat_ngram_size"):
        found.append(theirs.NoRepeatNGramLogitsProcessor(size))
    if config.get("bad_words_ids"):
        eos = torch.tensor([1])
        found.append(theirs.NoBadWordsLogitsProcessor(config["bad_words_ids"], eos))
    forced = config.get("forced_bos_token_id")
    if forced is not None:
        found.append(theirs.ForcedBOSTokenLogitsProcessor(forced))
    if (token := config.get("forced_eos_token_id")) is not None:
        found.append(theirs.ForcedEOSTokenLogitsProcessor(longest, token))
    if config.get("suppress_tokens"):
        found.append(theirs.SuppressTokensLogitsProcessor(config["suppress_tokens"]))
    if config.get("begin_suppress_tokens"):
        first = prompt + int(prompt == 1 and forced is not None)
        found.append(
            theirs.SuppressTokensAtBeginLogitsProcessor(config["begin_suppress_tokens"], first)
        )
    return found


def test_values_that_cannot_be_are_all_named() -> None:
    config = {"suppress_tokens": "no", "no_repeat_ngram_size": -1, "bad_words_ids": [[]]}
    with pytest.raises(BundleError) as caught:
        Rules.of_model(config)
    for name in config:
        assert name in str(caught.value)
