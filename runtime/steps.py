"""A decoder's graph in other steps than one: texts in two parts, and a token at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetfm.runtime._ort import ort
from edgetfm.runtime.session import Session
from edgetfm.signature import KEEP, PAST, PRESENT, Array, Feeds, Signature, TensorSpec

LAST_STEPS = 4
"""Tokens of each row that `one_by_one` asks one at a time."""


def in_two_parts(session: Session, feeds: Feeds, first: int) -> Feeds:
    """The logits of one text, [1, length, vocabulary]: of `first` tokens, then of the others."""
    ids = feeds["input_ids"]
    ones = np.ones_like(ids)
    start = {"input_ids": ids[:, :first], "attention_mask": ones[:, :first]}
    one = _all_logits(session, session.signature.whole_texts(start))
    past = {
        name.replace(PRESENT, PAST, 1): array
        for name, array in one.items()
        if name.startswith(PRESENT)
    }
    rest = {"input_ids": ids[:, first:], "attention_mask": ones, **past}
    two = _all_logits(session, rest)
    return {"logits": np.concatenate([one["logits"], two["logits"]], axis=1)}


def one_by_one(session: Session, feeds: Feeds) -> tuple[Array, Array]:
    """The logits of the last tokens of a ragged batch, asked one at a time over one buffer.

    Returns them, [batch, steps, vocabulary], and which tokens they are of, [batch, steps]. Rows
    with fewer than two tokens repeat their last one.
    """
    ids, lengths = feeds["input_ids"], feeds["attention_mask"].sum(axis=1)
    steps = int(min(LAST_STEPS, max(1, lengths.max() - 1)))
    prompts = np.maximum(lengths - steps, 1)
    capacity = int(lengths.max())
    buffers = {
        t.name: ort().OrtValue.ortvalue_from_numpy(_room(t, len(ids), capacity))
        for t in session.signature.inputs
        if t.name.startswith(PAST)
    }
    _step(session, buffers, ids[:, : prompts.max()], prompts)
    places = np.empty((len(ids), steps), np.int64)
    logits = []
    for step in range(steps):
        places[:, step] = np.minimum(prompts + step, lengths - 1)
        tokens = np.take_along_axis(ids, places[:, step : step + 1], axis=1)
        logits.append(_step(session, buffers, tokens, places[:, step] + 1))
    return np.concatenate(logits, axis=1), places


def last_step(signature: Signature, feeds: Feeds) -> Feeds:
    """The step that reads the last token of whole texts, on a past of zeros; what others take.

    It is what a decoder does for each token that it writes, and takes as long whatever is past.
    """
    if not signature.has_cache:
        return feeds
    ids = feeds["input_ids"]
    step = {"input_ids": ids[:, -1:], "attention_mask": np.ones_like(ids)}
    for spec in signature.inputs:
        if spec.name.startswith(PAST):
            step[spec.name] = _room(spec, len(ids), ids.shape[1] - 1)
        elif spec.name == KEEP:
            step[KEEP] = np.array(1, np.int64)
    return step


def _room(spec: TensorSpec, batch: int, capacity: int) -> Array:
    """A cache of zeros, [batch, kv_heads, capacity, head_size]."""
    _, heads, _, size = spec.shape
    return np.zeros((batch, int(heads), capacity, int(size)), spec.dtype)


def _step(session: Session, buffers: dict[str, Any], tokens: Array, lengths: Array) -> Array:
    """One step over buffers that past and present share; the logits after each row's last token."""
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    binding = session.io_binding()
    binding.bind_cpu_input("input_ids", np.ascontiguousarray(tokens))
    binding.bind_cpu_input("attention_mask", mask)
    for name, buffer in buffers.items():
        binding.bind_ortvalue_input(name, buffer)
        binding.bind_ortvalue_output(name.replace(PAST, PRESENT, 1), buffer)
    binding.bind_output("logits")
    session.run_bound(binding)
    logits: Array = binding.get_outputs()[-1].numpy()
    return logits[:, -1:]


def _all_logits(session: Session, feeds: Feeds) -> Feeds:
    if KEEP in session.optional_inputs:
        feeds = {**feeds, KEEP: np.array(0, np.int64)}
    return session.run(feeds)
