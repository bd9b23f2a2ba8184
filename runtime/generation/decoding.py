"""The decoder of an encoder-decoder, bound to texts that were encoded: a step at a time.

Cross-attention's keys and values are computed in the first step and stay where they are. Those of
self-attention grow by a token a step: a step reads them from one block of memory and writes them,
one longer, to another, and the two take turns. Tensors are called as Optimum calls them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.runtime.generation.cache import Slot, slots
from edgetfm.runtime.session import Session
from edgetfm.signature import Array

_CPU = "cpu"
_CROSS = ".encoder."


class _Growing:
    """One tensor of self-attention's cache for so many rows, in two blocks that take turns."""

    def __init__(self, slot: Slot, rows: int, capacity: int) -> None:
        self.slot = slot
        self.dtype = np.dtype(slot.dtype)
        self._of_row = slot.heads * slot.size
        try:  # the system gives a page when it is first touched
            size = rows * self._of_row * capacity
            self.here, self.there = np.empty(size, self.dtype), np.empty(size, self.dtype)
        except (MemoryError, ValueError) as error:
            raise InputError(
                f"there is no memory for {rows} answers of {capacity} tokens: ask for fewer at "
                "once, for fewer beams, or for shorter ones (max_new_tokens)"
            ) from error

    def shape(self, rows: int, length: int) -> list[int]:
        return [rows, self.slot.heads, length, self.slot.size]

    def now(self, rows: int, length: int) -> Array:
        """What it holds, [rows, numbers of a row]."""
        return self.here[: rows * self._of_row * length].reshape(rows, self._of_row * length)

    def bind(self, io: Any, rows: int, length: int, more: int) -> None:
        """Read what is here, write it with `more` tokens there, and let them change places."""
        _bind_input(io, self.slot.past, self.here, self.shape(rows, length))
        _bind_output(io, self.slot.present, self.there, self.shape(rows, length + more))
        self.here, self.there = self.there, self.here


class Decoding:
    """Rows of answers that are written together, all of one length, a row to each source.

    hidden: what the encoder gave, [rows, positions, width]. mask: which positions count, where
    the graph asks. capacity: the longest answer with its prompt.
    """

    def __init__(
        self, session: Session, hidden: Array, mask: Array | None, capacity: int, copies: int = 1
    ) -> None:
        """`copies`: how many rows each source will have once its prompt is read; see `spread`."""
        self._session = session
        self._io = session.io_binding()
        self._hidden = np.ascontiguousarray(hidden)
        self._mask = mask
        self._copies = copies
        self.rows = len(hidden)
        self.length = 0
        of = slots(session.signature)
        self._cross_of = [slot for slot in of if _CROSS in slot.past]
        self._own = [_Growing(s, copies * self.rows, capacity) for s in of if _CROSS not in s.past]
        self._cross: list[Array] = []
        logits = next(t for t in session.signature.outputs if t.name == "logits")
        self._vocabulary, self._logits_dtype = logits.shape[-1], np.dtype(logits.dtype)
        self._inputs = {t.name for t in session.signature.inputs}

    def step(self, tokens: Array) -> Array:
        """The logits [rows, width, vocabulary] after each of the tokens [rows, width]."""
        tokens = np.ascontiguousarray(tokens, dtype=np.int64)
        logits = np.empty((*tokens.shape, self._vocabulary), self._logits_dtype)
        first = not self.length
        if first:
            self._bind_source(self._io)
        _bind_input(self._io, "input_ids", tokens, list(tokens.shape))
        _bind_output(self._io, "logits", logits, list(logits.shape))
        for growing in self._own:
            growing.bind(self._io, self.rows, self.length, tokens.shape[1])
        self._session.run_bound(self._io)
        self.length += tokens.shape[1]
        if first:
            self._bind_kept()
        return logits

    def spread(self) -> None:
        """Make of each row `copies` that are alike, beside each other, after the first step."""
        for growing in self._own:
            values = np.repeat(growing.now(self.rows, self.length), self._copies, axis=0)
            growing.here[: values.size] = values.ravel()
        self._cross = [np.repeat(values, self._copies, axis=0) for values in self._cross]
        self._mask = None if self._mask is None else np.repeat(self._mask, self._copies, axis=0)
        self.rows *= self._copies
        self._bind_kept()

    def copy_rows(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Put the first row of each pair in the second's place, one pair after the other.

        Both are rows of one source: what cross-attention keeps is the same.
        """
        for growing in self._own:
            now = growing.now(self.rows, self.length)
            for source, target in pairs:
                now[target] = now[source]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order; they may only move up."""
        for growing in self._own:
            now = growing.now(self.rows, self.length)
            for target, source in enumerate(rows):
                if target != source:
                    now[target] = now[source]
        for values in [*self._cross, *([] if self._mask is None else [self._mask])]:
            for target, source in enumerate(rows):
                if target != source:
                    values[target] = values[source]
        self.rows = len(rows)
        self._cross = [values[: self.rows] for values in self._cross]
        self._mask = None if self._mask is None else self._mask[: self.rows]
        self._bind_kept()

    # --- what stays bound -------------------------------------------------------------------------

    def _bind_source(self, io: Any) -> None:
        """The first step: keys and values are made of what the encoder gave, and kept."""
        rows, positions = self._hidden.shape[:2]
        self._bind_always(io, first=True)
        for slot in self._cross_of:
            kept = np.empty((rows, slot.heads, positions, slot.size), np.dtype(slot.dtype))
            self._cross.append(kept)
            nothing = np.empty(1, kept.dtype)
            _bind_input(io, slot.past, nothing, [rows, slot.heads, 0, slot.size])
            _bind_output(io, slot.present, kept, list(kept.shape))

    def _bind_kept(self) -> None:
        """Later steps: they are read where the first one wrote them."""
        self._io = self._session.io_binding()
        self._bind_always(self._io, first=False)
        for slot, kept in zip(self._cross_of, self._cross, strict=True):
            _bind_input(self._io, slot.past, kept, list(kept.shape))

    def _bind_always(self, io: Any, *, first: bool) -> None:
        self._uses_cache = np.array([not first])
        _bind_input(io, "use_cache_branch", self._uses_cache, [1])
        hidden = self._hidden
        if not first:  # it is not read any more, but its rows are counted
            hidden = self._hidden = np.empty((self.rows, *hidden.shape[1:]), hidden.dtype)
        _bind_input(io, "encoder_hidden_states", hidden, list(hidden.shape))
        if "encoder_attention_mask" in self._inputs:
            if self._mask is None:
                self._mask = np.ones(hidden.shape[:2], np.int64)
            _bind_input(io, "encoder_attention_mask", self._mask, list(self._mask.shape))


def _bind_input(io: Any, name: str, array: Array, shape: list[int]) -> None:
    io.bind_input(name, _CPU, 0, array.dtype.type, shape, array.ctypes.data)


def _bind_output(io: Any, name: str, array: Array, shape: list[int]) -> None:
    if math.prod(shape) > array.size:
        raise ValueError(f"{name} of {shape} does not fit in {array.size} numbers")
    io.bind_output(name, _CPU, 0, array.dtype.type, shape, array.ctypes.data)
