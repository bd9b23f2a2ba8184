"""The keys and values of every layer, in buffers that a graph reads and writes where they are.

GroupQueryAttention takes the cache as `past` and gives it as `present`; both are bound to the
same memory, so that a step writes one token's keys and values and moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetfm.errors import BundleError, InputError
from edgetfm.runtime._ort import ort
from edgetfm.signature import PAST, PRESENT, Array, Signature

STEP = 64
"""Capacities are multiples of it, so that a chat that grows does not allocate every time."""


@dataclass(frozen=True)
class Slot:
    """One buffer of the cache: the graph's names for it, its heads, their size and its type."""

    past: str
    present: str
    heads: int
    size: int
    dtype: str


def slots(signature: Signature) -> tuple[Slot, ...]:
    """The cache of a graph, from its `past_key_values.*` inputs and `present.*` outputs."""
    outputs = {t.name for t in signature.outputs}
    found, problems = [], []
    for tensor in signature.inputs:
        if not tensor.name.startswith(PAST):
            continue
        present = PRESENT + tensor.name.removeprefix(PAST)
        _, heads, _, size = tensor.shape if len(tensor.shape) == 4 else (0, "", 0, "")
        if present not in outputs or not isinstance(heads, int) or not isinstance(size, int):
            problems.append(str(tensor))
        else:
            found.append(Slot(tensor.name, present, heads, size, tensor.dtype))
    if problems or not found:
        raise BundleError(
            "this graph has no cache that can be kept: expected past_key_values.* of "
            "[batch, heads, past, size] with present.* beside them"
            + (f", got {', '.join(problems)}" if problems else "")
        )
    return tuple(found)


class Cache:
    """Room for `capacity` tokens in each of `batch` rows. On the CPU it costs what is written.

    arrays: the memory itself, where it is within reach: on the CPU.
    """

    def __init__(
        self,
        of: tuple[Slot, ...],
        batch: int,
        capacity: int,
        device: str,
        arrays: Sequence[Array] | None = None,
    ) -> None:
        self.of = of
        self.batch = batch
        self.capacity = capacity
        self.device = device
        self.arrays: list[Array] = []
        self.values: list[Any] = []
        if device == "cpu":
            shapes = [(batch, slot.heads, capacity, slot.size) for slot in of]
            try:  # zeroed by the system, page by page as they are first touched
                self.arrays = [
                    np.zeros(shape, slot.dtype) if arrays is None else arrays[at]
                    for at, (shape, slot) in enumerate(zip(shapes, of, strict=True))
                ]
            except (MemoryError, ValueError) as error:  # numpy's ValueError: beyond any memory
                raise InputError(
                    f"there is no memory for {batch} x {capacity} tokens of prompts and answers: "
                    "ask for fewer at once, or for shorter answers (max_new_tokens)"
                ) from error
            self.values = [ort().OrtValue.ortvalue_from_numpy(array) for array in self.arrays]
            return
        make = ort().OrtValue.ortvalue_from_shape_and_type
        for slot in of:
            shape = [batch, slot.heads, capacity, slot.size]
            self.values.append(make(shape, np.dtype(slot.dtype).type, device, 0))

    @property
    def within_reach(self) -> bool:
        """Whether its content can be copied and its rows used alone."""
        return self.device == "cpu"

    def with_room(self, capacity: int, tokens: int) -> Cache:
        """This cache if it has the capacity, else a larger one with the first `tokens` copied.

        The new one has at least twice the room, so that a text that grows is copied seldom.
        """
        if capacity <= self.capacity:
            return self
        larger = Cache(self.of, self.batch, max(capacity, 2 * self.capacity), self.device)
        for old, new in zip(self.arrays, larger.arrays, strict=True):
            new[:, :, :tokens] = old[:, :, :tokens]
        return larger

    def rows(self, start: int, stop: int) -> Cache:
        """Some of its rows as a cache of their own, in the same memory."""
        arrays = [array[start:stop] for array in self.arrays]
        return Cache(self.of, stop - start, self.capacity, self.device, arrays)

    def copy_row(self, source: int, target: int, tokens: int) -> None:
        """Put a row's first `tokens` in another's place."""
        for array in self.arrays:
            array[target, :, :tokens] = array[source, :, :tokens]


def rounded(tokens: int, context: int) -> int:
    """A capacity for so many tokens, within the model's context."""
    return min(context, -(-tokens // STEP) * STEP)
