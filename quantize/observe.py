"""What the activations of a graph look like on calibration data: statistics, never the tensors.

The float graph runs in onnxruntime one item at a time with the wanted tensors as extra outputs.
Each is reduced as soon as it is there, and tensors are taken in groups, so that memory is bounded
whatever the number of items and the size of the model. Padding never enters: an item is cut to
its own length, and what its attention mask hides is left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.errors import DataError
from edgetfm.graphs import save_graph
from edgetfm.progress import Progress, quiet
from edgetfm.runtime.session import Session, make_session
from edgetfm.signature import Array, Feeds

Matrix = NDArray[np.float32]
Gram = NDArray[np.float64]

SAMPLE_ROWS = 1024
"""Tokens of each activation that are kept, as whole items: dynamic scales are those of an item."""

GROUP_BYTES = 256 << 20
"""What the statistics of the tensors that are observed together may take."""


@dataclass
class Activation:
    """What was seen of one tensor [..., channels].

    low, high: the smallest and largest value of each channel. gram: the sum over tokens of
    x^T x, [channels, channels], each token scaled to size 1; None if it was not asked for.
    sample: the rows of some whole items.
    """

    channels: int
    low: Matrix
    high: Matrix
    gram: Gram | None
    rows: int = 0
    sample: list[Matrix] = field(default_factory=list)
    sampled: int = 0
    _waiting: list[Matrix] = field(default_factory=list)

    @classmethod
    def empty(cls, channels: int, *, gram: bool) -> Activation:
        """Nothing seen yet."""
        return cls(
            channels,
            np.full(channels, np.inf, np.float32),
            np.full(channels, -np.inf, np.float32),
            np.zeros((channels, channels)) if gram else None,
        )

    @property
    def largest(self) -> Matrix:
        """The largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def add(self, rows: Matrix, *, keep: bool) -> None:
        """Take in the rows of one item."""
        self.low = np.minimum(self.low, rows.min(0))
        self.high = np.maximum(self.high, rows.max(0))
        self.rows += len(rows)
        if self.gram is not None:
            self._waiting.append(rows)
            if sum(map(len, self._waiting)) >= SAMPLE_ROWS:
                self.settle()
        if keep and self.sampled < SAMPLE_ROWS:
            self.sample.append(rows.copy())
            self.sampled += len(rows)

    def settle(self) -> None:
        """Add the rows that wait to the gram: one large product is much faster than many small."""
        if self.gram is not None and self._waiting:
            rows = np.concatenate(self._waiting)
            rows = rows / token_size(rows)
            self.gram += rows.T @ rows
        self._waiting.clear()


def token_size(rows: Matrix) -> Matrix:
    """The root mean square of each token, [tokens, 1]; 1 for a token of zeros."""
    size = np.sqrt(np.square(rows).mean(axis=1, keepdims=True))
    return np.where(size > 0, size, np.float32(1))


class Observer:
    """The float graph in a session, with any of its tensors as outputs."""

    def __init__(self, model: ir.Model, names: Sequence[str], feeds: Sequence[Feeds]) -> None:
        self.items = list(items(feeds))
        if not self.items:
            raise DataError("no calibration data: every item is empty or masked out")
        self._folder = tempfile.TemporaryDirectory(prefix="edgetfm-")
        self._session = _session_with(model, names, Path(self._folder.name))

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        del self._session
        self._folder.cleanup()

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The shapes these tensors have for the longest item."""
        longest = max(self.items, key=lambda item: item.tokens)
        return {n: a.shape for n, a in self._tensors(longest, names).items()}

    def _tensors(self, item: Item, names: Sequence[str]) -> Feeds:
        """These tensors for one item; onnxruntime gives no inputs back as outputs."""
        computed = [name for name in names if name not in item.feeds]
        given = {name: item.feeds[name] for name in names if name in item.feeds}
        return given | (self._session.run(item.feeds, computed) if computed else {})

    def observe(
        self, channels: dict[str, int], *, gram: bool, progress: Progress = quiet
    ) -> dict[str, Activation]:
        """Run every item and give the statistics of these tensors, name -> channels.

        Raises DataError if an item makes NaN or Inf in one of them.
        """
        seen = {name: Activation.empty(k, gram=gram) for name, k in channels.items()}
        stride = max(1, sum(i.tokens for i in self.items) // (2 * SAMPLE_ROWS))
        for done, item in enumerate(self.items):
            for name, array in self._tensors(item, list(channels)).items():
                rows = _rows(array, item.mask)
                if not np.isfinite(rows).all():
                    raise DataError(
                        f"calibration item {item.number} makes NaN or Inf in {name}: "
                        "look at the item, or at the model in float32"
                    )
                seen[name].add(rows, keep=done % stride == 0)
            progress("calibrating", done + 1, len(self.items))
        for activation in seen.values():
            activation.settle()
        return seen


def groups(channels: dict[str, int], *, gram: bool) -> Iterator[dict[str, int]]:
    """The tensors in groups whose statistics fit in GROUP_BYTES, one tensor at the least."""
    group: dict[str, int] = {}
    taken = 0
    for name, k in channels.items():
        size = 2 * SAMPLE_ROWS * k * 4 + (k * k * 8 if gram else 0)
        if group and taken + size > GROUP_BYTES:
            yield group
            group, taken = {}, 0
        group[name] = k
        taken += size
    if group:
        yield group


@dataclass(frozen=True)
class Item:
    """Row `number` of all, without its padding; mask marks the tokens that count, or is None."""

    number: int
    feeds: Feeds
    mask: NDArray[np.bool_] | None
    tokens: int


def items(feeds: Sequence[Feeds]) -> Iterator[Item]:
    """Each row of each batch, cut to its own length. Rows that are masked out are left out."""
    number = 0
    for batch in feeds:
        for row in range(min((len(a) for a in batch.values()), default=0)):
            number += 1
            one = {name: a[row : row + 1] for name, a in batch.items()}
            for name, a in one.items():
                if a.dtype.kind == "f" and not np.isfinite(a).all():
                    raise DataError(f"calibration item {number} has NaN or Inf in {name}")
            item = _cut(one, number)
            if item is not None:
                yield item


def _cut(one: Feeds, number: int) -> Item | None:
    mask = one.get("attention_mask")
    if mask is None:
        return Item(number, one, None, max(a.size for a in one.values()))
    real = mask[0].astype(bool)
    if not real.any():
        return None
    length = int(real.nonzero()[0][-1]) + 1
    cut = {n: a[:, :length] if a.shape == mask.shape else a for n, a in one.items()}
    return Item(number, cut, real[:length], length)


def _rows(array: Array, mask: NDArray[np.bool_] | None) -> Matrix:
    """The tokens of one item that count, [tokens, channels]; its batch is 1."""
    rows = array.reshape(-1, array.shape[-1])
    if mask is not None and len(rows) == len(mask):
        rows = rows[mask]
    return np.asarray(rows, np.float32)


def _session_with(model: ir.Model, names: Sequence[str], folder: Path) -> Session:
    """A session of `model` in which the tensors of these names are outputs too."""
    outputs = model.graph.outputs
    before = list(outputs)
    given = {v.name for v in before}
    wanted = set(names) - given
    try:
        for node in model.graph:
            for value in node.outputs:
                if value.name in wanted:
                    value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
                    outputs.append(value)
        path = folder / "observed.onnx"
        save_graph(model, path)
    finally:
        outputs.clear()
        outputs.extend(before)
    return make_session(path)
