"""Tokens are picked as transformers' logits processors would let them be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.errors import EdgetfmError
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.runtime.generation.sampling import Sampler, kept, likeliest
from edgetfm.signature import Array

VOCABULARY = 3000


def scores(seed: int, spread: float = 3.0) -> Array:
    random = np.random.default_rng(seed)
    return (random.standard_normal(VOCABULARY) * spread).astype(np.float32)


def theirs(options: GenerationOptions, logits: Array) -> Array:
    """The probabilities after transformers' own processors, in their order."""
    import torch
    from transformers.generation import logits_process as lp

    rows = torch.from_numpy(logits)[None]
    steps: list[Any] = []
    if options.temperature != 1.0:
        steps.append(lp.TemperatureLogitsWarper(options.temperature))
    if options.top_k:
        steps.append(lp.TopKLogitsWarper(options.top_k))
    if options.top_p < 1.0:
        steps.append(lp.TopPLogitsWarper(options.top_p))
    if options.min_p > 0.0:
        steps.append(lp.MinPLogitsWarper(options.min_p))
    for step in steps:
        rows = step(torch.zeros(1, 1, dtype=torch.long), rows)
    return np.asarray(torch.softmax(rows.double(), -1)[0])


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 50, VOCABULARY + 1])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-6])
@pytest.mark.parametrize("min_p", [0.0, 0.05])
def test_what_may_be_drawn_is_transformers(
    temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    options = GenerationOptions(
        do_sample=True, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    )
    for seed, spread in enumerate((0.1, 1.0, 6.0)):
        logits = scores(seed, spread)
        ids, weights = kept(logits, options)
        wanted = theirs(options, logits)
        assert ids.tolist() == np.flatnonzero(wanted).tolist()
        np.testing.assert_allclose(weights / weights.sum(), wanted[ids], rtol=1e-4)


def test_ties_with_the_last_of_top_k_are_kept() -> None:
    logits = np.array([1.0, 3.0, 2.0, 2.0, 0.0], dtype=np.float32)
    assert kept(logits, GenerationOptions(top_k=2))[0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_repetition_is_punished_as_by_transformers(penalty: float) -> None:
    import torch
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    said = [5, 17, 5, 99]
    for seed in range(5):
        logits = scores(seed)
        logits[said] += 5.0
        wanted = RepetitionPenaltyLogitsProcessor(penalty)(
            torch.tensor([said]), torch.from_numpy(logits.copy())[None]
        )[0]
        mine = logits.copy()
        sampler = Sampler(GenerationOptions(repetition_penalty=penalty), said[:2])
        for token in said[2:]:
            sampler.say(token)
        assert sampler.pick(mine) == int(wanted.argmax())
        np.testing.assert_array_equal(mine, wanted.numpy())


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.0, 0.3, 0.2], dtype=np.float32) + 1e-30).astype(np.float32)
    sampler = Sampler(GenerationOptions(do_sample=True, top_k=3, seed=1), [0])
    draws = np.bincount([sampler.pick(logits.copy()) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(draws, [0.5, 0.0, 0.3, 0.2], atol=0.03)


@given(seed=st.integers(0, 2**40))
def test_a_seed_says_it_all(seed: int) -> None:
    options = GenerationOptions(do_sample=True, seed=seed, top_k=20)

    def draws(number: int = 0) -> list[int]:
        sampler = Sampler(options, [1, 2], number=number)
        return [sampler.pick(scores(i, 0.2)) for i in range(12)]

    assert draws() == draws()
    assert draws() != draws(number=1)


def test_no_end_before_its_time() -> None:
    options = GenerationOptions(min_new_tokens=2, eos_token_id=(1,))
    sampler = Sampler(options, [0])
    logits = np.array([0.0, 9.0, 1.0], dtype=np.float32)
    assert [sampler.pick(logits.copy()) for _ in range(3)] == [2, 2, 1]


def test_logits_that_are_not_numbers_end_in_a_sentence() -> None:
    logits = scores(0)
    logits[7] = np.nan
    for options in (GenerationOptions(), GenerationOptions(do_sample=True, seed=0)):
        with pytest.raises(EdgetfmError, match="NaN"):
            Sampler(options, [0]).pick(logits.copy())
    with pytest.raises(EdgetfmError, match="NaN"):
        likeliest(logits)


@pytest.mark.parametrize("temperature", [1e-40, 1e-300])
def test_at_a_temperature_near_zero_the_likeliest_is_drawn(temperature: float) -> None:
    options = GenerationOptions(do_sample=True, temperature=temperature)
    ids, weights = kept(np.array([1.0, 5.0, 2.0], np.float32), options)
    assert (ids.tolist(), weights.tolist()) == ([0, 1, 2], [0.0, 1.0, 0.0])
