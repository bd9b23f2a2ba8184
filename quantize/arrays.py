"""Inputs of a graph from a .npz file, for models whose preprocessing nobody knows."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from zlib import error as ZlibError

import numpy as np

from edgetfm.errors import DataError, InputError, listed
from edgetfm.quantize.calibration import SAMPLES, Calibration, spread
from edgetfm.quantize.random_tokens import refuse_random_tokens
from edgetfm.runtime.text import TextEncoder
from edgetfm.signature import Array, Feeds, Signature

BLOCK_BYTES = 1 << 22
"""About what is read of one array at a time."""


def read_arrays(
    path: Path,
    signature: Signature,
    limit: int = SAMPLES,
    *,
    encoder: TextEncoder | None = None,
) -> Calibration:
    """At most `limit` different items of a .npz file that holds the graph's inputs by name.

    The first axis of each array counts the items; other arrays are left alone. The items are
    feeds of batch 1, chosen as those of `read_calibration` are. Memory holds `limit` items, and
    one array where it is in Fortran order. encoder: the model's tokenizer, if it has one.
    Raises DataError that lists what is missing or does not fit, and for token ids that are no
    text: see `refuse_random_tokens`.
    """
    if limit < 1:
        raise DataError(f"{limit} samples were asked for: it must be 1 or more, better 100")
    if not path.is_file():
        raise DataError(f"no calibration data at {path}")
    names = [spec.name for spec in signature.inputs]
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            columns = _opened(archive, names, path, stack)
            count = len(columns[0])
            rows = zip(*columns, strict=True) if columns else iter(())
            chosen = spread((_told(names, row) for row in rows), limit)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, ZlibError) as error:
        raise DataError(f"{path} is not a .npz file that can be read: {error}") from error
    if not chosen:
        raise DataError(f"{path} holds no items: its arrays have {count} rows")
    items = _fitting(path, signature, chosen)
    refuse_random_tokens(items, path.name, encoder)
    digest = hashlib.sha256()
    for item in items:
        digest.update(_told(names, [item[name] for name in names])[0])
    return Calibration(path.name, items, digest.hexdigest())


def join(items: Sequence[Feeds]) -> Feeds:
    """Items of `read_arrays` as one batch."""
    return {name: np.concatenate([item[name] for item in items]) for name in items[0]}


def _told(names: Sequence[str], row: Sequence[Array]) -> tuple[bytes, Feeds]:
    """The bytes that tell an item from others, and the item."""
    data = b"".join(str((a.dtype.str, a.shape)).encode() + a.tobytes() for a in row)
    return data, dict(zip(names, row, strict=True))


def _fitting(path: Path, signature: Signature, chosen: Sequence[Feeds]) -> list[Feeds]:
    items = []
    for item in chosen:
        try:
            items.append(signature.check(item))
        except InputError as error:  # the arrays are regular: what is wrong is wrong everywhere
            raise DataError(f"{path} does not fit the graph, an item at a time:\n{error}") from None
        broken = [n for n, a in items[-1].items() if a.dtype.kind == "f" and not _finite(a)]
        if broken:
            raise DataError(f"{path} has NaN or Inf in {', '.join(broken)}")
    return items


def _finite(array: Array) -> bool:
    return bool(np.isfinite(array).all())


class _Column:
    """One array of an archive, read block by block."""

    def __init__(self, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.file, self.shape, self.dtype = file, shape, dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        size = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        step = max(1, BLOCK_BYTES // max(1, size))
        for start in range(0, len(self), step):
            rows = min(step, len(self) - start)
            data = self.file.read(rows * size)
            if len(data) != rows * size:
                raise EOFError(f"an array ends at row {start}")
            block = np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])
            for i in range(rows):
                yield block[i : i + 1].copy()  # a view would keep the whole block


def _opened(
    archive: zipfile.ZipFile, names: Sequence[str], path: Path, stack: ExitStack
) -> list[Any]:
    """The arrays of these names, or a DataError that lists what is wrong with them."""
    held = {name.removesuffix(".npy") for name in archive.namelist()}
    problems = [
        f"no array '{name}'; it has {', '.join(sorted(held)) or 'none'}"
        for name in names
        if name not in held
    ]
    columns: list[Any] = []
    for name in names:
        if name not in held:
            continue
        file = stack.enter_context(archive.open(f"{name}.npy"))
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            problems.append(f"'{name}' holds Python objects: save it as numbers")
        elif not shape:
            problems.append(f"'{name}' is a single number: its first axis counts the items")
        elif fortran:
            with archive.open(f"{name}.npy") as again:
                whole = np.lib.format.read_array(again)
            columns.append([whole[i : i + 1] for i in range(shape[0])])
        else:
            columns.append(_Column(file, shape, dtype))
    if not problems and len({len(c) for c in columns}) > 1:
        counts = ", ".join(f"{n} {len(c)}" for n, c in zip(names, columns, strict=True))
        problems.append(f"the arrays have different numbers of items: {counts}")
    if problems:
        raise DataError(f"{path}: {listed(problems)}")
    return columns
