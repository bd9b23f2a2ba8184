"""What the headers of a .npz file promise, checked before a row of it is read.

A file of a megabyte can hold arrays of gigabytes, and a header can say anything: what does not
fit the graph, or would not fit in memory, is refused by its header.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.signature import Signature, TensorSpec

LARGEST_ITEM = 1 << 24
"""Elements of one item in one array: 2362 x 2362 pixels of three colours."""

LONGER = 4
"""How many times longer than texts are cut to an item of tokens may be: a tokenizer is often set
to cut sooner than the model must."""

HELD_BYTES = 4 << 30
"""What the items that are kept may take together, and an array that must be read whole."""

UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    RuntimeError,  # zipfile's for an encrypted member; for an unknown compression a kind of it
)
"""What reading a damaged or hostile archive raises."""


@dataclass(frozen=True)
class Header:
    """What an array in an archive is said to be. stored: the bytes that the archive has of it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    stored: int

    @property
    def item(self) -> tuple[int, ...]:
        """The shape of one item: the first axis counts them."""
        return self.shape[1:]

    @property
    def item_bytes(self) -> int:
        """The bytes of one item."""
        return prod(self.item) * self.dtype.itemsize


def member(name: str) -> str:
    """Where an archive keeps the array of this name."""
    return f"{name}.npy"


def names_in(archive: zipfile.ZipFile) -> set[str]:
    """The names of the arrays in an archive."""
    return {n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")}


def read_header(file: IO[bytes], name: str, stored: int) -> Header:
    """The header at the start of an array; ValueError for one that cannot be.

    stored: the bytes of the whole member.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except UNREADABLE:
        raise
    except Exception as error:  # numpy evaluates it, tokens first: the ways to fail are many
        raise ValueError(f"the header of '{name}' is damaged: {error}") from error
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"'{name}' is said to have the shape {shape!s:.60}")
    return Header(shape, dtype, bool(fortran), stored)


def header_problems(
    headers: Mapping[str, Header], signature: Signature, limit: int, longest: int | None
) -> list[str]:
    """Why these arrays cannot be the inputs of a graph, `limit` items of them at a time.

    longest: the tokens that texts for the model are cut to, None if it is not known.
    """
    problems: list[str] = []
    for spec in signature.inputs:
        if spec.name in headers:
            problems += _problems(headers[spec.name], spec, longest)
    counts = {name: h.shape[0] for name, h in headers.items() if h.shape}
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{name} {n!s:.30}" for name, n in counts.items())
        problems.append(f"the arrays have different numbers of items: {listing}")
    if problems:
        return problems
    held = sum(min(limit, h.shape[0]) * h.item_bytes for h in headers.values())
    if held > HELD_BYTES:
        return [f"{limit} of its items take {_gib(held)}, more than {_gib(HELD_BYTES)}: "
                "ask for fewer samples"]  # fmt: skip
    return []


def _problems(header: Header, spec: TensorSpec, longest: int | None) -> list[str]:
    name, shape = spec.name, (1, *header.item)
    if header.dtype.hasobject:
        return [f"'{name}' holds Python objects: save it as numbers"]
    if not header.shape:
        return [f"'{name}' is a single number: its first axis counts the items"]
    try:  # an empty array tells whether the type fits
        empty = TensorSpec(name, spec.dtype, (0,))
        Signature((empty,), ()).check({name: np.zeros(0, header.dtype)})
    except InputError:
        return [f"'{name}' is {header.dtype!s:.60}, expected {spec.dtype}"]
    if misfit := _misfit(shape, spec, longest):
        return [f"'{name}' does not fit the graph, an item at a time: {misfit}"]
    size = header.shape[0] * header.item_bytes
    if size > header.stored:
        said = f"it is said to have the shape {header.shape!s:.60}"
        return [f"'{name}' is not whole: {said} and has {header.stored} bytes"]
    if header.fortran and size > HELD_BYTES:
        return [f"'{name}' is in Fortran order and must be read whole, {_gib(size)}: save it with "
                "np.ascontiguousarray"]  # fmt: skip
    return []


def _misfit(shape: Sequence[int], spec: TensorSpec, longest: int | None) -> str:
    """Why an item of this shape is none of this input's, '' if it may be."""
    said = f"has shape {tuple(shape)!s:.60}"
    if len(shape) != len(spec.shape) or any(
        isinstance(axis, int) and axis != size for axis, size in zip(spec.shape, shape, strict=True)
    ):
        return f"{said}, expected {spec}"
    if 0 in shape:
        return f"{said}, which holds nothing"
    if longest is not None and len(shape) == 2 and shape[1] > LONGER * longest:
        return f"{said}, and texts for this model are cut to {longest} tokens"
    if any(isinstance(a, str) for a in spec.shape[1:]) and prod(shape) > LARGEST_ITEM:
        return f"{said}, more than {LARGEST_ITEM} values"
    return ""


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
