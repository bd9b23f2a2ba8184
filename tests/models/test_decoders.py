"""Each decoder family answers as eager transformers, in PyTorch and as a graph, step by step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from edgetfm.models import TABLE
from edgetfm.signature import Feeds
from edgetfm.sources import eager, open_source
from edgetfm.sources._reference import load_model
from tests.decoders import CONTEXT, DECODERS, empty_past

LIMIT = 1e-5
"""Of the largest difference of a logit, as a share of the largest logit."""
LENGTHS = (17, 9, 3)
"""Tokens of the rows of a ragged batch."""


class Decoder:
    """One tiny decoder: transformers' model, our module and our graph."""

    def __init__(self, source: Path, bundle: Path) -> None:
        self.source = open_source(source)
        self.signature = self.source.signature
        self.theirs, _ = load_model(source, "text-generation")
        self.module = eager(self.source.module())
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(bundle / "onnx" / "model.onnx", options)

    def graph(self, feeds: Feeds) -> Feeds:
        names = [o.name for o in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, feeds), strict=True))

    def wanted(self, ids: np.ndarray) -> np.ndarray:
        """transformers' logits of one text without padding, [length, vocabulary]."""
        with torch.inference_mode():
            return self.theirs(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()


@pytest.fixture(scope="module")
def decoder(tiny_decoder_bundle: Callable[..., Any]) -> Callable[[str], Decoder]:
    @cache
    def get(model_type: str) -> Decoder:
        made = tiny_decoder_bundle(model_type)
        return Decoder(made.source, made.bundle)

    return get


def texts(decoder: Decoder) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    vocabulary = decoder.signature.outputs[0].shape[-1]
    return [random.integers(5, vocabulary, n + 8) for n in LENGTHS]


def padded(rows: list[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.zeros((len(rows), width), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return ids, mask


def distance(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def step(decoder: Decoder, ids: Any, mask: Any, past: Feeds, keep: int) -> Feeds:
    kept = np.array(keep, np.int64)
    return {"input_ids": ids, "attention_mask": mask, "num_logits_to_keep": kept, **past}


def past_of(answer: Feeds) -> Feeds:
    return {
        name.replace("present", "past_key_values"): array
        for name, array in answer.items()
        if name.startswith("present")
    }


@pytest.mark.parametrize("model_type", DECODERS)
@pytest.mark.parametrize("how", ["module", "graph"])
def test_a_ragged_batch_of_prompts_has_transformers_logits(
    decoder: Callable[[str], Decoder], model_type: str, how: str
) -> None:
    made = decoder(model_type)
    rows = [text[:n] for text, n in zip(texts(made), LENGTHS, strict=True)]
    ids, mask = padded(rows, max(LENGTHS))
    run = getattr(made, how)
    past = empty_past(made.signature, len(rows))
    every = run(step(made, ids, mask, past, 0))["logits"]
    last = run(step(made, ids, mask, past, 1))["logits"]
    assert last.shape[1] == 1
    for i, row in enumerate(rows):
        wanted = made.wanted(row)
        assert distance(every[i, : len(row)], wanted) < LIMIT
        assert distance(last[i, 0], wanted[-1]) < LIMIT


@pytest.mark.parametrize("model_type", DECODERS)
@pytest.mark.parametrize("how", ["module", "graph"])
def test_a_prompt_in_two_parts_has_the_logits_of_the_whole(
    decoder: Callable[[str], Decoder], model_type: str, how: str
) -> None:
    made = decoder(model_type)
    text = texts(made)[0]
    run = getattr(made, how)
    ones = np.ones((1, len(text)), np.int64)
    for first in (1, 7, len(text) - 1):
        past = empty_past(made.signature, 1)
        one = run(step(made, text[None, :first], ones[:, :first], past, 0))
        two = run(step(made, text[None, first:], ones, past_of(one), 0))
        got = np.concatenate([one["logits"], two["logits"]], axis=1)[0]
        assert distance(got, made.wanted(text)) < LIMIT


@pytest.mark.parametrize("model_type", DECODERS)
def test_steps_of_a_ragged_batch_over_one_buffer_have_transformers_logits(
    decoder: Callable[[str], Decoder], model_type: str
) -> None:
    made = decoder(model_type)
    rows = texts(made)
    wanted = [made.wanted(row) for row in rows]
    buffers = {
        name: ort.OrtValue.ortvalue_from_numpy(array)
        for name, array in empty_past(made.signature, len(rows), CONTEXT).items()
    }
    for grown in range(8):
        lengths = [n + grown for n in LENGTHS]
        cut = [row[:n] for row, n in zip(rows, lengths, strict=True)]
        ids, mask = padded(cut, max(lengths))
        if grown:  # from the second step on, one token a row
            ids = np.array([row[-1:] for row in cut])
        binding = made.session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("attention_mask", mask)
        for name, buffer in buffers.items():
            binding.bind_ortvalue_input(name, buffer)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), buffer)
        binding.bind_ortvalue_input(
            "num_logits_to_keep", ort.OrtValue.ortvalue_from_numpy(np.array(1, np.int64))
        )
        binding.bind_output("logits")
        made.session.run_with_iobinding(binding)
        logits = next(v for v in binding.get_outputs() if v.shape()[-1] == wanted[0].shape[-1])
        for i, n in enumerate(lengths):
            assert distance(logits.numpy()[i, 0], wanted[i][n - 1]) < LIMIT


def test_every_model_type_of_the_decoders_is_tested() -> None:
    listed = {
        t for row in TABLE.values() if "text-generation" in row.tasks for t in row.model_types
    }
    assert listed == set(DECODERS)
