"""A memory of one size in place of a cache that grows: read by a step, and written anew.

The graph of such a decoder takes `past_key_values.*` and gives `present.*` like any other, but
always as many slots. It reads all of them, so a step writes beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgetfm.runtime._ort import ort
from edgetfm.runtime.generation.cache import Cache
from edgetfm.runtime.generation.decoder import Binding
from edgetfm.signature import Array

if TYPE_CHECKING:
    from edgetfm.runtime.generation.decoder import Decoder


class State(Cache):
    """What `batch` rows remember; there is always room in it."""

    def with_room(self, capacity: int, tokens: int) -> State:
        """Itself: texts have no end."""
        return self

    def rows(self, start: int, stop: int) -> State:
        """Some of its rows as a state of their own, in the same memory."""
        arrays = [array[start:stop] for array in self.arrays]
        return State(self.of, stop - start, self.capacity, self.device, arrays)


class StateBinding(Binding):
    """A decoder bound to one state: the same steps as with a cache."""

    def __init__(self, decoder: Decoder, cache: Cache) -> None:
        super().__init__(decoder, cache)
        self._next = State(cache.of, cache.batch, cache.capacity, cache.device)
        for slot, value in zip(cache.of, self._next.values, strict=True):
            self._io.bind_ortvalue_output(slot.present, value)
        self._of_one: Array = np.ones((cache.batch, cache.capacity + 1), dtype=np.int64)
        self._bound_one = ort().OrtValue.ortvalue_from_numpy(self._of_one)

    def step(self, tokens: Array, lengths: Sequence[int], *, every: bool = False) -> Array:
        """See `Binding.step`; the rows remember these tokens afterwards."""
        logits = super().step(tokens, lengths, every=every)
        if self.cache.within_reach:
            for array, new in zip(self.cache.arrays, self._next.arrays, strict=True):
                array[...] = new
        else:
            for value, new in zip(self.cache.values, self._next.values, strict=True):
                value.update_inplace(new.numpy())
        return logits

    def _bind_mask(self, lengths: Sequence[int], width: int) -> None:
        """Which slots and which of the step's tokens count: no wider, whatever came before.

        A row's count stands at the beginning. A prompt's mask ends with its longest row, which
        tells where the others end; a single token is its row's last wherever the mask ends.
        """
        slots = self.cache.capacity
        before = np.maximum(np.array(lengths) - width, 0)
        count = np.minimum(before, slots) + (lengths - before)
        if width == 1:
            mask, value = self._of_one, self._bound_one
        else:
            mask = np.empty((self.cache.batch, max(width, *count)), dtype=np.int64)
            value = ort().OrtValue.ortvalue_from_numpy(mask)
        mask[...] = np.arange(mask.shape[1]) < count[:, None]
        self._io.bind_ortvalue_input("attention_mask", value)
