"""Encoder-decoders write what eager transformers writes, alone and in ragged batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import edgetfm
from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.generation.rows import Row
from edgetfm.runtime.generation.rules import Rules
from edgetfm.runtime.generation.seq2seq import Seq2Seq
from edgetfm.runtime.generation.seq2seq_options import Seq2SeqOptions
from edgetfm.runtime.generation.seq2seq_writer import seq2seq_of
from edgetfm.signature import Feeds

KINDS = [
    "t5-gated",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("t5", "bart", "marian", "whisper")),
]
NEW = 9
WAYS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3, "min_new_tokens": 4},
    {"num_beams": 4},
    {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True},
    {"num_beams": 3, "length_penalty": -1.0, "early_stopping": "never"},
    {"num_beams": 5, "no_repeat_ngram_size": 2, "min_new_tokens": 6},
]


class Made:
    """A tiny bundle, transformers' model, and sources of different lengths for both."""

    def __init__(self, made: Any) -> None:
        model = edgetfm.load(made.bundle, threads=1)
        self.ours = seq2seq_of(model)
        self.theirs: Any = transformers.AutoModelForSpeechSeq2Seq if _hears(model) else None
        self.theirs = self.theirs or transformers.AutoModelForSeq2SeqLM
        self.theirs = self.theirs.from_pretrained(made.source).eval()
        self.said = json.loads((made.source / "generation_config.json").read_text())
        random = np.random.default_rng(7)
        if _hears(model):
            _, *shape = model.signature.inputs[0].shape
            sounds = random.normal(size=[4, *map(int, shape)])
            self.feeds: Feeds = {"input_features": sounds.astype(np.float32)}
            return
        lengths = np.array([11, 4, 7, 1])
        ids = random.integers(5, self.ours.vocabulary, (4, 11))
        real = np.arange(11) < lengths[:, None]
        self.feeds = {
            "input_ids": np.where(real, ids, self.ours.pad),
            "attention_mask": real.astype(np.int64),
        }

    def rows(self, options: Seq2SeqOptions, count: int = 4) -> list[Row]:
        return [Row([self.ours.start], options) for _ in range(count)]

    def options(self, **given: Any) -> Seq2SeqOptions:
        return Seq2SeqOptions.of_model({}, self.ours.eos).changed(max_new_tokens=NEW, **given)

    def written(self, rows: list[Row], options: Seq2SeqOptions) -> list[list[int]]:
        """What the rows say at the end."""
        encoded = self.ours.encode(self.feeds).rows(0, len(rows))
        config = {**self.said, "no_repeat_ngram_size": options.no_repeat_ngram_size}
        rules = Rules.of_model(config, self.ours.eos)
        if options.num_beams > 1:
            self.ours.search(encoded, rows, options, [rules])
        else:
            for _ in self.ours.write(encoded, rows, [rules]):
                pass
        return [row.tokens for row in rows]


def _hears(model: Any) -> bool:
    return bool(model.signature.inputs[0].dtype == "float32")


@pytest.fixture(scope="module")
def made(tiny_writer_bundle: Callable[..., Any]) -> Callable[[str], Made]:
    kept: dict[str, Made] = {}

    def get(kind: str) -> Made:
        if kind not in kept:
            kept[kind] = Made(tiny_writer_bundle(kind))
        return kept[kind]

    return get


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way) or "greedy")
def test_they_say_what_transformers_says(
    made: Callable[[str], Made], kind: str, way: dict[str, Any]
) -> None:
    one = made(kind)
    config = transformers.GenerationConfig(
        **{**one.said, "max_length": None, "do_sample": False, "max_new_tokens": NEW, **way}
    )
    with torch.inference_mode():
        feeds = {name: torch.from_numpy(array) for name, array in one.feeds.items()}
        wanted = transformers.GenerationMixin.generate(
            one.theirs, **feeds, generation_config=config
        )
    options = one.options(**way)
    for ours, theirs in zip(one.written(one.rows(options), options), wanted[:, 1:], strict=True):
        rest = theirs[len(ours) :].tolist()
        assert ours == theirs[: len(ours)].tolist()
        assert set(rest) <= {one.ours.pad, *one.ours.eos}  # what fills the batch


def test_draws_depend_on_the_seed_alone(made: Callable[[str], Made]) -> None:
    one = made("t5-gated")
    options = one.options(temperature=1.5, seed=3)
    together = one.written(one.rows(options), options)
    assert together[0] == one.written(one.rows(options, 1), options)[0]
    other = one.options(temperature=1.5, seed=4)
    assert together != one.written(one.rows(other), other)


def test_a_row_that_is_stopped_ends_with_its_next_token(made: Callable[[str], Made]) -> None:
    one = made("t5-gated")
    options = one.options(min_new_tokens=NEW)
    rows = one.rows(options)
    steps = one.ours.write(one.ours.encode(one.feeds), rows)
    next(steps)
    rows[1].stop()
    for _ in steps:
        pass
    assert [len(row.tokens) for row in rows] == [NEW, 2, NEW, NEW]
    assert [row.reason for row in rows] == ["length", "cancelled", "length", "length"]


def test_a_stopped_search_says_nothing(made: Callable[[str], Made]) -> None:
    one = made("t5-gated")
    options = one.options(num_beams=2, min_new_tokens=NEW)
    rows = one.rows(options)
    rows[0].stop()
    one.written(rows, options)
    assert (rows[0].tokens, rows[0].reason) == ([], "cancelled")
    assert all(row.reason == "length" for row in rows[1:])


def test_what_cannot_be_started_is_said(made: Callable[[str], Made]) -> None:
    one = made("t5-gated")
    encoded, options = one.ours.encode(one.feeds).rows(0, 2), one.options()
    start = one.ours.start
    with pytest.raises(InputError, match="start with as many tokens"):
        one.ours.write(encoded, [Row([start], options), Row([start, start], options)])
    with pytest.raises(InputError, match="starts with the token 999"):
        one.ours.write(encoded.rows(0, 1), [Row([999], options)])


def test_a_manifest_without_a_start_is_refused(made: Callable[[str], Made]) -> None:
    ours = made("t5-gated").ours
    with pytest.raises(BundleError, match=r"context is 'x'.*\n.*decoder_start is None"):
        Seq2Seq(ours.encoder, ours.decoder, {"context": "x"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_beams": 0}, "num_beams is 0"),
        ({"early_stopping": "soon"}, "early_stopping is 'soon'"),
        ({"num_beams": 2, "do_sample": True}, "cannot sample"),
        ({"prompt_lookup_num_tokens": 3}, "go on from a prompt"),
    ],
)
def test_options_that_cannot_be_are_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Seq2SeqOptions().changed(**given)


def test_a_models_lengths_count_the_start() -> None:
    options = Seq2SeqOptions.of_model({"max_length": 142, "min_length": 56, "num_beams": 4})
    assert (options.max_new_tokens, options.min_new_tokens, options.num_beams) == (141, 55, 4)
