"""Calibration batches as single items without their padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.errors import DataError
from edgetfm.signature import KEEP, PAST, Array, Feeds


class Whole(dict[str, Array]):
    """Feeds that are one item, to be run as they are.

    A graph of fixed sizes takes no row alone and none without its padding, and in others the
    first axis is not the batch.
    """


def of_whole_texts(model: ir.Model, feeds: Feeds) -> Feeds:
    """The feeds of a decoder that reads whole texts: nothing is past, and all logits are wanted.

    What is there stays; the feeds of any other graph are what they were.
    """
    more: Feeds = {}
    for value in model.graph.inputs:
        name = str(value.name)
        if name == KEEP:
            more[name] = np.array(0, np.int64)
        elif name.startswith(PAST) and value.shape is not None and value.dtype is not None:
            sizes = [axis if isinstance(axis, int) else 0 for axis in value.shape]
            sizes[0] = len(feeds["input_ids"])
            more[name] = np.zeros(sizes, value.dtype.numpy())
    return type(feeds)({**more, **feeds}) if more else feeds


@dataclass(frozen=True, eq=False)
class Item:
    """Row `number` of all, without its padding; mask marks the tokens that count, or is None.

    Of feeds that are a `Whole`, all rows are one item.
    """

    number: int
    feeds: Feeds
    mask: NDArray[np.bool_] | None
    tokens: int


def items(feeds: Sequence[Feeds]) -> Iterator[Item]:
    """Each row of each batch, cut to its own length, or a `Whole`. Masked out ones are left out.

    Raises DataError if an input is NaN or infinite.
    """
    number = 0
    for batch in feeds:
        for one in _rows(batch):
            number += 1
            for name, a in one.items():
                if a.dtype.kind == "f" and not np.isfinite(a).all():
                    raise DataError(f"calibration item {number} has NaN or Inf in {name}")
            item = _cut(one, number)
            if item is not None:
                yield item


def _rows(batch: Feeds) -> Iterator[Feeds]:
    if isinstance(batch, Whole):
        yield batch
        return
    for row in range(min((len(a) for a in batch.values() if a.ndim), default=0)):
        yield {name: a[row : row + 1] if a.ndim else a for name, a in batch.items()}


def _cut(one: Feeds, number: int) -> Item | None:
    mask = one.get("attention_mask")
    if mask is None:
        return Item(number, one, None, max(a.size for a in one.values()))
    if isinstance(one, Whole):
        real = mask.astype(bool).ravel()
        return Item(number, one, real, int(real.sum())) if real.any() else None
    real = mask[0].astype(bool)
    if not real.any():
        return None
    length = int(real.nonzero()[0][-1]) + 1
    cut = {n: a[:, :length] if _is_per_token(a, mask) else a for n, a in one.items()}
    return Item(number, cut, real[:length], length)


def _is_per_token(array: Array, mask: Array) -> bool:
    """Whether it has a number or a vector for each token.

    A cache [1, kv_heads, past, size] or a picture [1, 3, height, width] may have as many heads or
    colours as there are tokens.
    """
    return array.ndim <= mask.ndim + 1 and array.shape[: mask.ndim] == mask.shape
