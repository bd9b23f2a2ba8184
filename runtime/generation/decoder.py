"""One step of a decoder: tokens in, logits out, the cache left where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgetfm.errors import BundleError, listed
from edgetfm.runtime._ort import ort
from edgetfm.runtime.generation.cache import Cache, rounded, slots
from edgetfm.runtime.model import Model
from edgetfm.signature import KEEP, Array


class Decoder:
    """The graph of a bundle that generates text, and what its manifest says about it."""

    def __init__(self, model: Model) -> None:
        said = model.bundle.manifest.generation
        self.model = model
        self.slots = slots(model.session.signature)
        problems = _wrong(said)
        if problems:
            raise BundleError(f"the manifest's 'generation' is malformed:\n{listed(problems)}")
        self.context: int = said["context"]
        self.bos: int | None = said.get("bos")
        self.eos: tuple[int, ...] = tuple(said.get("eos", ()))
        self.pad: int = said.get("pad") or 0
        self.device = model.session.device.name
        logits = next((t for t in model.session.signature.outputs if t.name == "logits"), None)
        if logits is None or not isinstance(logits.shape[-1], int):
            raise BundleError(f"this graph gives no logits over a vocabulary: {logits}")
        inputs = [t.name for t in model.session.signature.inputs]
        self.keeps_any = KEEP in (*inputs, *model.graph.optional_inputs)
        self.vocabulary = logits.shape[-1]
        self.logits_dtype = logits.dtype
        signature = model.session.signature
        sizes = {t.shape[2] for t in signature.outputs if t.name == self.slots[0].present}
        self.remembers: int | None = None
        """How many slots its memory has; None is a cache that grows, and can be cut back."""
        if signature.remembers:
            (self.remembers,) = (int(size) for size in sizes)

    def cache(self, batch: int, capacity: int) -> Cache:
        """An empty cache for so many tokens, or an empty memory, which has its size."""
        if self.remembers is None:
            return Cache(self.slots, batch, capacity, self.device)
        from edgetfm.runtime.generation.state import State

        return State(self.slots, batch, self.remembers, self.device)

    def bind(self, cache: Cache) -> Binding:
        """The decoder on one of its caches."""
        if self.remembers is None:
            return Binding(self, cache)
        from edgetfm.runtime.generation.state import StateBinding

        return StateBinding(self, cache)


def _wrong(said: Mapping[str, Any]) -> list[str]:
    """What is wrong with a manifest's `generation`."""
    problems = []
    if not (type(said.get("context")) is int and said["context"] > 0):
        problems.append(f"context is {said.get('context')!r}, expected a number of tokens")
    for name in ("bos", "pad"):
        value = said.get(name)
        if value is not None and not (type(value) is int and value >= 0):
            problems.append(f"{name} is {value!r}, expected a token id or null")
    eos = said.get("eos", [])
    if not (isinstance(eos, (list, tuple)) and all(type(i) is int and i >= 0 for i in eos)):
        problems.append(f"eos is {eos!r}, expected a list of token ids")
    return problems


class Binding:
    """A decoder bound to one cache: every buffer is bound once, and its content changes.

    Tokens of a row are padded on the right; `lengths` counts a row's tokens, those of this step
    included. More than one token on a past needs a batch of 1.
    """

    def __init__(self, decoder: Decoder, cache: Cache) -> None:
        self.decoder = decoder
        self.cache = cache
        self._session = decoder.model.graph
        self._io = self._session.io_binding()
        for slot, value in zip(cache.of, cache.values, strict=True):
            self._io.bind_ortvalue_input(slot.past, value)
            self._io.bind_ortvalue_output(slot.present, value)
        rows = cache.batch
        self._ids: dict[int, tuple[Array, Any]] = {}
        self._logits: dict[int, tuple[Array, Any]] = {}
        self._mask = np.ones(rows * cache.capacity, dtype=np.int64)
        self._places = np.arange(cache.capacity, dtype=np.int64)
        self._bound_width = self._bound_kept = self._bound_total = 0
        self._every = np.array(1, dtype=np.int64)

    def step(self, tokens: Array, lengths: Sequence[int], *, every: bool = False) -> Array:
        """The logits [batch, 1, vocabulary] after each row's last token; `every`: of each token.

        tokens: [batch, width]. The array is overwritten by the next step.
        """
        self._bind_tokens(tokens)
        self._bind_mask(lengths, tokens.shape[1])
        logits = self._bind_logits(tokens.shape[1] if every else 1)
        self._session.run_bound(self._io)
        return logits

    def probe(self) -> None:
        """A step at the cache's last place, before anything is in it: its logits mean nothing."""
        rows, total = self.cache.batch, self.cache.capacity
        self._bind_tokens(np.zeros((rows, 1), np.int64))
        self._bind_logits(1)
        mask = np.ones((rows, total), np.int64)
        self._io.bind_ortvalue_input("attention_mask", ort().OrtValue.ortvalue_from_numpy(mask))
        self._bound_total = 0
        self._session.run_bound(self._io)

    def _bind_tokens(self, tokens: Array) -> None:
        width = tokens.shape[1]
        if width not in self._ids:
            array = np.empty((self.cache.batch, width), dtype=np.int64)
            self._ids[width] = (array, ort().OrtValue.ortvalue_from_numpy(array))
        array, value = self._ids[width]
        array[...] = tokens
        if width != self._bound_width:
            self._io.bind_ortvalue_input("input_ids", value)
            self._bound_width = width

    def _bind_mask(self, lengths: Sequence[int], width: int) -> None:
        """Which places hold tokens. A prompt's mask has its width, which tells it from decoding.

        In decoding it may be wider than the longest row: it is bound anew once in STEP tokens.
        """
        rows, total = self.cache.batch, max(*lengths, width)
        if width == 1:
            if total <= self._bound_total:
                for row, length in enumerate(lengths):
                    self._mask[row * self._bound_total + length - 1] = 1
                return
            total = rounded(total, self.cache.capacity)
        mask = self._mask[: rows * total].reshape(rows, total)
        np.less(self._places[:total], np.array(lengths)[:, None], out=mask, casting="unsafe")
        self._io.bind_ortvalue_input("attention_mask", ort().OrtValue.ortvalue_from_numpy(mask))
        self._bound_total = total if width == 1 else 0

    def _bind_logits(self, kept: int) -> Array:
        if kept not in self._logits:
            shape = (self.cache.batch, kept, self.decoder.vocabulary)
            array = np.empty(shape, dtype=self.decoder.logits_dtype)
            self._logits[kept] = (array, ort().OrtValue.ortvalue_from_numpy(array))
        array, value = self._logits[kept]
        if kept != self._bound_kept:
            self._io.bind_ortvalue_output("logits", value)
            if self.decoder.keeps_any:
                self._every = np.array(1 if kept == 1 else 0, dtype=np.int64)
                self._io.bind_ortvalue_input(KEEP, ort().OrtValue.ortvalue_from_numpy(self._every))
            self._bound_kept = kept
        return array
