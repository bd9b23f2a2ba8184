"""Rows of .csv, .jsonl and .parquet files, one at a time and each with its number."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from edgetfm.errors import DataError, MissingExtra

Row = dict[str, Any]

PAIRS = {
    "source": ("source", "src", "text", "document", "article", "question", "en", "input"),
    "target": ("target", "tgt", "summary", "translation", "answer", "de", "output"),
}
"""What the columns are called that hold a text and what is written about it."""

LONGEST_FIELD = 1 << 24
"""Characters of one field; csv's own limit of 131072 is below some documents."""

PARQUET_ROWS = 1024
"""Rows of a .parquet file that are decoded together."""

LARGEST_DECODED, MOST_REPEATED = 1 << 28, 100
"""What a .parquet file may hold at any rate in bytes, and else how many times its own size."""

BATCH_BYTES = 1 << 29
"""What a column of the rows that are decoded together may take at the worst."""

TOO_LARGE = "decoded it is far larger than the file, for it repeats itself: give each text once"


@dataclass(frozen=True)
class Other:
    """What stands in a column that was not read: what `kind` it is."""

    kind: str

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def is_broken(text: str) -> bool:
    """Whether it holds half a surrogate pair, as JSON can: no tokenizer takes that."""
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def lines(path: Path, file: TextIO) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers; DataError for one that is a file of its own."""
    for number in count(1):
        line = file.readline(LONGEST_FIELD + 1)
        if len(line) > LONGEST_FIELD:
            raise DataError(f"{path}, row {number}: longer than {LONGEST_FIELD} characters")
        if not line:
            return
        yield number, line


def title(path: Path) -> str:
    """The name of a file as text that can be written: what is not UTF-8 in it becomes '?'."""
    return path.name.encode("utf-8", "replace").decode()


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """Each row that is not blank, with its number; the header of a .csv file is row 1.

    columns: the only ones that are needed; () is all. A row lacks the columns it is too short
    for. Memory holds one row, or PARQUET_ROWS of the columns. In a .parquet file what is not
    needed, or is neither text nor number, is an `Other`. Raises DataError on a file that is not
    what its suffix says, or decodes to far more than its size.
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
        for number, line in lines(path, file):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_constant=_no_number)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, row {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, row {number}: {type(row).__name__}, expected an object")
            yield number, row


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("data", f"reading {path.name}") from error
    number = 0
    try:
        # Read piece by piece: a row group may be the whole file.
        with parquet.ParquetFile(path) as file:
            _check(path, file)
            names, coded, together = file.schema_arrow.names, _coded(file.schema), _rows(file)
        decodable = [f.name for f in file.schema_arrow if _is_decodable(f.type)]
        wanted = [name for name in decodable if name in columns] or decodable
        others = {n: Other(str(file.schema_arrow.field(n).type)) for n in names if n not in wanted}
        room = max(LARGEST_DECODED, MOST_REPEATED * path.stat().st_size)
        options: dict[str, Any] = {"buffer_size": 1 << 20, "pre_buffer": False}
        with parquet.ParquetFile(path, read_dictionary=coded, **options) as file:
            for batch in file.iter_batches(together, columns=wanted, use_threads=False):
                for values in zip(*map(_values, batch.columns), strict=True):
                    number += 1
                    row = dict(zip(batch.schema.names, values, strict=True))
                    room -= sum(map(_size, values))
                    if room < 0:
                        raise DataError(f"{path}, row {number}: {TOO_LARGE}")
                    yield number, {n: row[n] if n in row else others[n] for n in names}
    except (pyarrow.ArrowException, OverflowError, MemoryError, RecursionError) as error:
        raise DataError(f"{path} is not a .parquet file that can be read: {error}") from error


def _check(path: Path, file: Any) -> None:
    """Raise DataError for columns that cannot be told apart or read, or hold too many values."""
    names = file.schema_arrow.names
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise DataError(f"{path} has two columns called {', '.join(twice)}: rename one")
    if not any(_is_decodable(field.type) for field in file.schema_arrow):
        has = ", ".join(f"{field.name} ({field.type})" for field in file.schema_arrow)
        raise DataError(f"{path} has no column of texts or numbers; it has {has or 'none'}")
    most = max(LARGEST_DECODED, MOST_REPEATED * path.stat().st_size)
    chunks, rows = list(_columns(file)), file.metadata.num_rows
    if max(8 * rows, *(8 * values for values, _ in chunks), sum(size for _, size in chunks)) > most:
        raise DataError(f"{path}: {TOO_LARGE}")


def _columns(file: Any) -> Iterator[tuple[int, int]]:
    """The values and the bytes, before compression, of each column of each row group."""
    for i in range(file.num_row_groups):
        group = file.metadata.row_group(i)
        for j in range(group.num_columns):
            yield group.column(j).num_values, group.column(j).total_uncompressed_size


def _rows(file: Any) -> int:
    """How many rows are decoded together.

    Few where a column is large: one text that is stored once may be the value of all of them.
    """
    largest = max((size for _, size in _columns(file)), default=0)
    return min(PARQUET_ROWS, max(8, BATCH_BYTES // max(1, largest)))


def _coded(schema: Any) -> list[str]:
    """The columns of texts in lists: they stay coded, for a row may repeat one any time."""
    columns = [schema.column(i) for i in range(len(schema))]
    return [
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.max_repetition_level
    ]


def _is_decodable(kind: Any) -> bool:
    """Whether a column can hold what is asked for: texts, numbers, lists and structs of them.

    Others, such as dates, may hold what no Python value is.
    """
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_decodable(kind.value_type)
    if types.is_struct(kind):
        return all(_is_decodable(field.type) for field in kind)
    if types.is_dictionary(kind):
        return _is_decodable(kind.value_type)
    known = (types.is_string, types.is_large_string, types.is_integer, types.is_floating)
    return any(is_kind(kind) for is_kind in (*known, types.is_boolean, types.is_null))


def _values(column: Any) -> Iterator[Any]:
    """The values of a column as Python's, each when it is asked for."""
    return (value.as_py() for value in column)


def _size(value: Any) -> int:
    """About how many bytes a value takes."""
    if isinstance(value, str):
        return 8 + len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 8


READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[tuple[int, Row]]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
