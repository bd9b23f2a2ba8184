"""The keys and values of every layer, in buffers that a graph reads and writes where they are.

GroupQueryAttention takes the cache as `past` and gives it as `present`; both are bound to the
same memory, so that a step writes one token's keys and values and moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetfm.errors import BundleError
from edgetfm.runtime._ort import ort
from edgetfm.signature import Array, Signature

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
        if not tensor.name.startswith("past_key_values."):
            continue
        present = "present." + tensor.name.removeprefix("past_key_values.")
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
    """Room for `capacity` tokens in each of `batch` rows. On the CPU it costs what is written."""

    def __init__(self, of: tuple[Slot, ...], batch: int, capacity: int, device: str) -> None:
        self.of = of
        self.batch = batch
        self.capacity = capacity
        self.device = device
        self.arrays: list[Array] = []  # on the CPU: the memory itself
        self.values: list[Any] = []
        for slot in of:
            shape = (batch, slot.heads, capacity, slot.size)
            if device == "cpu":
                # Zeroed by the system, page by page as they are first touched.
                self.arrays.append(np.zeros(shape, slot.dtype))
                self.values.append(ort().OrtValue.ortvalue_from_numpy(self.arrays[-1]))
            else:
                make = ort().OrtValue.ortvalue_from_shape_and_type
                self.values.append(make(list(shape), np.dtype(slot.dtype).type, device, 0))

    def with_room(self, capacity: int, tokens: int) -> Cache:
        """This cache if it has the capacity, else a larger one with the first `tokens` copied.

        The new one has at least twice the room, so that a text that grows is copied seldom.
        """
        if capacity <= self.capacity:
            return self
        larger = Cache(self.of, self.batch, max(capacity, 2 * self.capacity), self.device)
        for at, new in enumerate(larger.arrays):
            new[:, :, :tokens] = self.arrays[at][:, :, :tokens]
        return larger

    @property
    def can_grow(self) -> bool:
        """Whether its content can be copied: on other devices it is out of reach."""
        return self.device == "cpu"


def rounded(tokens: int, context: int) -> int:
    """A capacity for so many tokens, within the model's context."""
    return min(context, -(-tokens // STEP) * STEP)
