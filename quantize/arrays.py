"""Inputs of a graph from a .npz file, for models whose preprocessing nobody knows."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from edgetfm.errors import DataError, InputError, listed
from edgetfm.quantize.calibration import SAMPLES, Calibration, spread
from edgetfm.quantize.npz import UNREADABLE, Header, header_problems, member, names_in, read_header
from edgetfm.quantize.random_tokens import refuse_random_tokens
from edgetfm.runtime.text import TextEncoder
from edgetfm.signature import Array, Feeds, Signature
from edgetfm.tables import title

BLOCK_BYTES = 1 << 22
"""About what is read of one array at a time."""

SHOWN = 20
"""Names of arrays that are listed; of the others the number is said."""


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
    Raises DataError that lists what is missing, does not fit or is too large, from the headers
    alone, and for token ids that are no text: see `refuse_random_tokens`.
    """
    if limit < 1:
        raise DataError(f"{limit} samples were asked for: it must be 1 or more, better 100")
    if not path.is_file():
        raise DataError(f"no calibration data at {path}")
    names = [spec.name for spec in signature.inputs]
    longest = None if encoder is None else encoder.max_length
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            columns, count = _opened(archive, path, signature, limit, longest, stack)
            rows = zip(*columns, strict=True) if columns else iter(())
            chosen = spread((_told(names, row) for row in rows), limit)
    except UNREADABLE as error:
        raise DataError(f"{path} is not a .npz file that can be read: {error}") from error
    if not chosen:
        raise DataError(f"{path} holds no items: its arrays have {count} rows")
    items = _fitting(path, signature, chosen)
    refuse_random_tokens(items, path.name, encoder)
    digest = hashlib.sha256()
    for item in items:
        digest.update(_told(names, [item[name] for name in names])[0])
    return Calibration(title(path), items, digest.hexdigest())


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

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self.file, self.header = file, header

    def __iter__(self) -> Iterator[Array]:
        header, size = self.header, self.header.item_bytes
        count, step = header.shape[0], max(1, BLOCK_BYTES // size)
        for start in range(0, count, step):
            rows = min(step, count - start)
            data = self.file.read(rows * size)
            if len(data) != rows * size:
                raise EOFError(f"an array ends at row {start}")
            block = np.frombuffer(data, header.dtype).reshape(rows, *header.item)
            for i in range(rows):
                yield block[i : i + 1].copy()  # a view would keep the whole block


def _opened(
    archive: zipfile.ZipFile,
    path: Path,
    signature: Signature,
    limit: int,
    longest: int | None,
    stack: ExitStack,
) -> tuple[list[Iterable[Array]], int]:
    """The rows of the graph's inputs and how many, or a DataError that lists what is wrong."""
    names, held = [spec.name for spec in signature.inputs], names_in(archive)
    problems = [
        f"no array '{name}'; it has {_few(sorted(held)) or 'none'}"
        for name in names
        if name not in held
    ]
    files = {n: stack.enter_context(archive.open(member(n))) for n in names if n in held}
    headers = {
        name: read_header(file, name, archive.getinfo(member(name)).file_size)
        for name, file in files.items()
    }
    problems += header_problems(headers, signature, limit, longest)
    if problems:
        raise DataError(f"{path}: {listed(problems)}")
    columns: list[Iterable[Array]] = []
    for name, header in headers.items():
        if header.fortran:
            with archive.open(member(name)) as again:
                whole = np.lib.format.read_array(again)
            columns.append([whole[i : i + 1] for i in range(header.shape[0])])
        else:
            columns.append(_Column(files[name], header))
    return columns, min((h.shape[0] for h in headers.values()), default=0)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" * (len(names) > SHOWN))
