"""Rows of .csv, .jsonl and .parquet files, one at a time and each with its number."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgetfm.errors import DataError, MissingExtra

Row = dict[str, Any]

LONGEST_FIELD = 1 << 24
"""Characters of one field; csv's own limit of 131072 is below some documents."""

PARQUET_ROWS = 1024
"""Rows of a .parquet file that are decoded together."""


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """Each row that is not blank, with its number; the header of a .csv file is row 1.

    columns: the only ones that are needed; () is all. A row lacks the columns it is too short
    for. Memory holds one row, or PARQUET_ROWS of the columns. Raises
    DataError on a file that is not what its suffix says.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path.name} is not one of {', '.join(READERS)}")
    try:
        yield from reader(path, columns)
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def not_utf8(path: Path, error: UnicodeDecodeError) -> DataError:
    """What is said of a file in another encoding."""
    return DataError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}")


def _csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        number = 1
        try:
            header = next(rows, None)
            if not header:
                raise DataError(
                    f"{path} is empty: a .csv file starts with the names of its columns"
                )
            number = 2
            for row in rows:
                if row:
                    yield number, dict(zip(header, row, strict=False))
                number += 1
        except csv.Error as error:
            raise DataError(f"{path}, row {number}: {error}") from error


def _jsonl(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, row {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, row {number}: {type(row).__name__}, expected an object")
            yield number, row


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("data", f"reading {path.name}") from error
    number = 0
    try:
        # Read piece by piece: a row group may be the whole file.
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            wanted = [name for name in columns if name in file.schema_arrow.names] or None
            for batch in file.iter_batches(PARQUET_ROWS, columns=wanted, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is not a .parquet file that can be read: {error}") from error


READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[tuple[int, Row]]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
