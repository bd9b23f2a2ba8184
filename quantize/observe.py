"""What the activations of a graph look like on calibration data: statistics, never the tensors.

The float graph runs in onnxruntime piece by piece, each piece once over all items, from the
tensors that the piece before left on disk. What is wanted of a piece is reduced as soon as it is
there. So memory holds one piece and its statistics, whatever the size of the model and the number
of items. Padding never enters: an item is cut to its own length, and what its attention mask
hides is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.errors import DataError
from edgetfm.progress import Progress, quiet
from edgetfm.quantize.items import Item, items
from edgetfm.quantize.pieces import Walk
from edgetfm.signature import Array, Feeds

Matrix = NDArray[np.float32]

SAMPLE_ROWS = 1024
"""Tokens of each activation that are kept, as whole items: dynamic scales are those of an item."""

WAITING_ROWS = 256
"""Tokens that wait for the gram: one large product is much faster than many small ones."""

GRAM_ROWS = 1 << 18
"""About how many tokens the gram is summed over, as whole items from all over the data: it costs
more than the model itself, and GPTQ does with as many (128 x 2048)."""

LARGEST_GRAM = 1 << 14
"""Channels of the largest gram, 1 GiB; it grows with their square, and factors of it too."""

PIECE_BYTES = 192 << 20
"""What the statistics of the tensors that are observed together may take."""


UNSEEN_ROWS = 64
"""Rows without any direction that stand for what an expert nobody was sent to would read."""


@dataclass
class Activation:
    """What was seen of one tensor [..., channels].

    low, high: the smallest and largest value of each channel. gram: the sum over tokens of
    x^T x, [channels, channels], each token scaled to size 1; None if it was not asked for, and
    for more than LARGEST_GRAM channels. Of more than GRAM_ROWS tokens it is estimated from as many.
    sample: the rows of some whole items.
    """

    channels: int
    low: Matrix
    high: Matrix
    gram: Matrix | None
    rows: int = 0
    summed: int = 0
    items: int = 0
    sample: list[Matrix] = field(default_factory=list)
    sampled: int = 0
    _sample_every: int = 1
    _sum_every: int = 1
    _waiting: list[Matrix] = field(default_factory=list)

    @classmethod
    def empty(cls, channels: int, *, gram: bool) -> Activation:
        """Nothing seen yet."""
        return cls(
            channels,
            np.full(channels, np.inf, np.float32),
            np.full(channels, -np.inf, np.float32),
            np.zeros((channels, channels), np.float32) if gram and has_gram(channels) else None,
        )

    @property
    def largest(self) -> Matrix:
        """The largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def expect(self, rows: int) -> None:
        """Take the sample and the gram from all over about so many rows."""
        self._sample_every = max(1, rows // (2 * SAMPLE_ROWS))
        self._sum_every = max(1, rows // GRAM_ROWS)

    def add(self, rows: Matrix) -> None:
        """Take in the rows of one item; none of an item whose tokens all went to other experts."""
        if not len(rows):
            return
        self.low = np.minimum(self.low, rows.min(0))
        self.high = np.maximum(self.high, rows.max(0))
        if self.gram is not None and self.items % self._sum_every == 0:
            self._waiting.append(rows)
            if sum(map(len, self._waiting)) >= WAITING_ROWS:
                self._sum()
        if self.items % self._sample_every == 0 and self.sampled < SAMPLE_ROWS:
            self.sample.append(rows.copy())
            self.sampled += len(rows)
        self.rows += len(rows)
        self.items += 1

    def _sum(self) -> None:
        if self.gram is not None and self._waiting:
            rows = np.concatenate(self._waiting)
            self._waiting.clear()
            rows /= token_size(rows)
            self.gram += rows.T @ rows
            self.summed += len(rows)

    def settle(self) -> None:
        """Add the rows that wait to the gram, and make it the sum over all tokens seen.

        Of an expert that no token was sent to nothing is known: its inputs count alike.
        """
        if not self.rows:
            shape = (UNSEEN_ROWS, self.channels)
            self.add(np.random.default_rng(0).standard_normal(shape, np.float32))
        self._sum()
        if self.gram is not None and 0 < self.summed < self.rows:
            self.gram *= np.float32(self.rows / self.summed)
            self.summed = self.rows


def has_gram(channels: int) -> bool:
    """Whether the gram of so many channels is kept; without it weights are rounded to nearest."""
    return channels <= LARGEST_GRAM


def token_size(rows: Matrix) -> Matrix:
    """The root mean square of each token, [tokens, 1]; 1 for a token of zeros."""
    size = np.sqrt(np.square(rows).mean(axis=1, keepdims=True))
    return np.where(size > 0, size, np.float32(1))


def observe(
    model: ir.Model,
    channels: Mapping[str, int],
    feeds: Sequence[Feeds],
    *,
    gram: bool,
    shapes_of: Sequence[str] = (),
    progress: Progress = quiet,
) -> Iterator[tuple[dict[str, Activation], dict[str, tuple[int, ...]]]]:
    """Piece by piece in graph order, the statistics of these tensors and the shapes of others.

    channels: tensor name -> size of its last axis. shapes_of: tensors whose shape for the longest
    item is wanted; those of `channels` are given too. Raises DataError if there is no data, or if
    an item makes NaN or Inf in a tensor.
    """
    found = list(items(feeds))
    if not found:
        raise DataError("no calibration data: every item is empty or masked out")
    tokens = sum(item.tokens for item in found)
    longest = max(found, key=lambda item: item.tokens)
    parts = list(parted(channels, gram=gram))
    if not parts:
        return
    with Walk(model, found, [[*part] for part in parts], shapes_of, longest) as walk:
        for number, part in enumerate(parts):
            seen = {name: Activation.empty(k, gram=gram) for name, k in part.items()}
            shapes: dict[str, tuple[int, ...]] = {}
            for done, (item, tensors) in enumerate(walk.piece(number)):
                for name, activation in seen.items():
                    rows = _rows(item, name, tensors[name])
                    if done == 0:  # a pixel is no row, nor a token of what is pooled
                        activation.expect(tokens * len(rows) // item.tokens)
                    activation.add(rows)
                if item is longest:
                    shapes = {name: array.shape for name, array in tensors.items()}
                progress("calibrating", number * len(found) + done + 1, len(parts) * len(found))
            for activation in seen.values():
                activation.settle()
            yield seen, shapes


def parted(channels: Mapping[str, int], *, gram: bool) -> Iterator[dict[str, int]]:
    """The tensors in order, in parts whose statistics fit in PIECE_BYTES, one at the least."""
    part: dict[str, int] = {}
    taken = 0
    for name, k in channels.items():
        size = SAMPLE_ROWS * k * 4 + ((WAITING_ROWS + k) * k * 4 if gram and has_gram(k) else 0)
        if part and taken + size > PIECE_BYTES:
            yield part
            part, taken = {}, 0
        part[name] = k
        taken += size
    if part:
        yield part


def _rows(item: Item, name: str, array: Array) -> Matrix:
    """The tokens of one item that count, [tokens, channels]; its batch is 1."""
    rows = array.reshape(-1, array.shape[-1])
    if item.mask is not None and len(rows) == len(item.mask):
        rows = rows[item.mask]
    if not np.isfinite(rows).all():
        raise DataError(
            f"calibration item {item.number} makes NaN or Inf in {name}: "
            "look at the item, or at the model in float32"
        )
    return np.asarray(rows, np.float32)
