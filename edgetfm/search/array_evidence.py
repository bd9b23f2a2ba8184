"""Feeds as evidence: batches of items, or arrays that the user gives where nobody knows more."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgetfm.errors import DataError
from edgetfm.quantize.arrays import join, read_arrays
from edgetfm.quantize.items import Whole
from edgetfm.quantize.npz import UNREADABLE, member, read_header
from edgetfm.runtime.text import TextEncoder
from edgetfm.signature import Feeds, Signature, TensorSpec

BATCHES = (1, 2, 3, 8)
"""Items together in a case, if rows are items."""


def how_to_give(signature: Signature) -> str:
    """The command that makes calibration data for a graph."""
    arrays = ", ".join(f"{t.name}={t.name}" for t in signature.inputs)
    shapes = [f"{t.name} {t.dtype}[{_axes(t, has_batch(signature))}]" for t in signature.inputs]
    return (
        f'np.savez("items.npz", {arrays}) with {"; ".join(shapes)}, '
        "then --calibration items.npz (100 items or more, like those the model will meet)"
    )


def _axes(spec: TensorSpec, rows: bool) -> str:
    return ", ".join(["items", *map(str, spec.shape[1:] if rows else spec.shape)])


def has_batch(signature: Signature) -> bool:
    """Whether the first axis of every input is the batch, or 1: then a row is an item."""
    firsts = {t.shape[0] if t.shape else None for t in signature.inputs}
    return firsts in ({"batch"}, {1})


def read_items(
    path: Path | None, signature: Signature, limit: int, encoder: TextEncoder | None = None
) -> tuple[list[Feeds], str, str]:
    """Feeds of one item each from a .npz file, its name and their fingerprint.

    encoder: the model's tokenizer, if it has one; token ids that are no text of it are refused.

    Arrays hold an item in each row, [items, ...], or have one axis more than the graph takes, if
    its first is not the batch. DataError without a file, with the command that makes one.
    """
    if path is None or path.suffix != ".npz":
        given = "nothing" if path is None else path.name
        raise DataError(
            "no tokenizer and no image processor stands beside this graph: it is calibrated on "
            f"arrays in a .npz file, {given} was given\nmake one: {how_to_give(signature)}"
        )
    whole = _one_axis_more(path, signature)
    read = signature
    if whole:
        lifted = [TensorSpec(t.name, t.dtype, (1, *t.shape)) for t in signature.inputs]
        read = Signature(tuple(lifted), signature.outputs)
    try:
        found = read_arrays(path, read, limit, encoder=encoder)
    except DataError as error:
        raise DataError(f"{error}\nexpected: {how_to_give(signature)}") from error
    items: list[Feeds] = [dict(item) for item in found.items]  # type: ignore[arg-type]
    if whole:
        items = [{name: array[0] for name, array in item.items()} for item in items]
    return items, found.name, found.fingerprint


def _one_axis_more(path: Path, signature: Signature) -> bool:
    """Whether every array of the file has one axis more than its input."""
    wanted = {t.name: len(t.shape) + 1 for t in signature.inputs}
    try:
        with zipfile.ZipFile(path) as archive:
            return all(_rank(archive, name) == rank for name, rank in wanted.items())
    except UNREADABLE:
        return False  # the reader says what is wrong with it


def _rank(archive: zipfile.ZipFile, name: str) -> int:
    with archive.open(member(name)) as file:
        return len(read_header(file, name, 0).shape)


def batched(items: Sequence[Feeds], signature: Signature, size: int) -> list[Feeds]:
    """Items that are rows as batches of `size`; others alone."""
    if not rows_are_items(items, signature):
        return [Whole(item) for item in items]
    return [join(items[i : i + size]) for i in range(0, len(items), size)]


def encoded(
    encode: Callable[[Any], Feeds], items: Sequence[Any], signature: Signature, size: int
) -> list[Feeds]:
    """Texts or pictures as batches of `size`, or of the only size that the graph takes."""
    batch, *later = signature.inputs[0].shape
    tokens = len(later) == 1 and isinstance(later[0], int)
    if "height" in signature.axes:  # pictures of several sizes make no batch
        return [Whole(encode([item])) for item in items]
    if not isinstance(batch, int) and not tokens:
        return [encode(list(items[i : i + size])) for i in range(0, len(items), size)]
    size = batch if isinstance(batch, int) else 1
    return [Whole(encode(list(items[i : i + size]))) for i in range(0, len(items) - size + 1, size)]


def rows_are_items(items: Sequence[Feeds], signature: Signature) -> bool:
    """Whether items can be joined along their first axis."""
    free = {t.shape[0] if t.shape else None for t in signature.inputs} == {"batch"}
    return free and all(len(a) == 1 for item in items for a in item.values())


def array_cases(items: Sequence[Feeds], signature: Signature) -> list[Feeds]:
    """Cases of one item, and of several together where the graph takes them."""
    if not rows_are_items(items, signature):
        return [dict(item) for item in items[:4]]
    return [join(items[:size]) for size in BATCHES if size <= len(items)]
