"""A decoder's graph in other steps than one: texts in two parts, and a token at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetfm.runtime._ort import ort
from edgetfm.runtime.bound import Room, run_into
from edgetfm.runtime.session import Session
from edgetfm.signature import KEEP, PAST, PRESENT, Array, Feeds, Signature, TensorSpec


def in_two_parts(session: Session, feeds: Feeds, first: int, room: Room = np.empty) -> Feeds:
    """The logits of one text, [1, length, vocabulary]: of `first` tokens, then of the others.

    room: what makes arrays for them.
    """
    ids = feeds["input_ids"]
    ones = np.ones_like(ids)
    start = {"input_ids": ids[:, :first], "attention_mask": ones[:, :first]}
    one = _all_logits(session, session.signature.whole_texts(start), room)
    past = {
        name.replace(PRESENT, PAST, 1): array
        for name, array in one.items()
        if name.startswith(PRESENT)
    }
    rest = {"input_ids": ids[:, first:], "attention_mask": ones, **past}
    two = _all_logits(session, rest, room)
    both = room((1, ids.shape[1], two["logits"].shape[2]), two["logits"].dtype)
    both[:, :first], both[:, first:] = one["logits"], two["logits"]
    return {"logits": both}


def token_by_token(
    session: Session, feeds: Feeds, whole: Feeds, prompts: Array, room: Room = np.empty
) -> Feeds:
    """The logits of a ragged batch, [batch, longest, vocabulary]: its last tokens one at a time.

    prompts: how many tokens of each row are read at once, [batch], 1 or more; the others follow
    over one buffer, as in generation. Rows that end before others repeat their last token. A step
    is asked for its last logits alone where the graph takes that. whole: the answers whose logits
    stand for all but the last token of the prompts. room: what makes the array of the logits.
    """
    ids, lengths = feeds["input_ids"], feeds["attention_mask"].sum(axis=1)
    buffers = {
        t.name: ort().OrtValue.ortvalue_from_numpy(_room(t, len(ids), int(lengths.max())))
        for t in session.signature.inputs
        if t.name.startswith(PAST)
    }
    logits = room(whole["logits"].shape, whole["logits"].dtype)
    logits[...] = whole["logits"]
    rows = np.arange(len(ids))
    logits[rows, prompts - 1] = _step(session, buffers, ids[:, : prompts.max()], prompts)
    for step in range(int((lengths - prompts).max(initial=0))):
        places = np.minimum(prompts + step, lengths - 1)[:, None]
        tokens = np.take_along_axis(ids, places, axis=1)
        answer = _step(session, buffers, tokens, places[:, 0] + 1)
        going = prompts + step < lengths  # a memory has had the last token of the others before
        logits[going, places[going, 0]] = answer[going]
    return {"logits": logits}


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
    """The logits [batch, vocabulary] after the last token of each row, padded on the right.

    One step over buffers that past and present share, or a memory's two states. tokens: [batch,
    new]; lengths: of what is past and new together, [batch].
    """
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    binding = session.io_binding()
    binding.bind_cpu_input("input_ids", np.ascontiguousarray(tokens))
    binding.bind_cpu_input("attention_mask", mask)
    for name, buffer in buffers.items():
        binding.bind_ortvalue_input(name, buffer)
        present = name.replace(PAST, PRESENT, 1)
        if session.signature.remembers:  # of another size than what it may be given
            binding.bind_output(present)
        else:
            binding.bind_ortvalue_output(present, buffer)
    if KEEP in (*session.optional_inputs, *(t.name for t in session.signature.inputs)):
        binding.bind_ortvalue_input(KEEP, ort().OrtValue.ortvalue_from_numpy(np.array(1, np.int64)))
    binding.bind_output("logits")
    session.run_bound(binding)
    *presents, answer = binding.get_outputs()
    if session.signature.remembers:
        buffers.update(zip(buffers, presents, strict=True))
    logits: Array = answer.numpy()
    last = lengths - 1 if logits.shape[1] == tokens.shape[1] > 1 else np.zeros_like(lengths)
    return np.asarray(logits[np.arange(len(logits)), last])


def _all_logits(session: Session, feeds: Feeds, room: Room) -> Feeds:
    if KEEP in session.optional_inputs:
        feeds = {**feeds, KEEP: np.array(0, np.int64)}
    (logits,) = (t for t in session.signature.outputs if t.name == "logits")
    tokens = {str(logits.shape[1]): feeds["input_ids"].shape[1]}
    return run_into(session, feeds, room, tokens)
