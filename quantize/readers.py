"""Texts from each kind of file, one at a time; files and rows that hold none are said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgetfm.errors import DataError
from edgetfm.tables import LONGEST_FIELD, READERS, is_broken, lines, not_utf8, read_rows

TEXT_COLUMNS = ("text", "sentence", "review", "content", "body", "document", "question", "prompt")
"""Columns taken without asking, the first that is there."""


def read_texts(path: Path, column: str) -> Iterator[str]:
    """The texts of a file or folder that are not blank; `column` '' finds it.

    A .txt file holds a text a line, a folder a text in each of its .txt files. Raises DataError
    with file and row.
    """
    reader = _folder if path.is_dir() else TEXT_READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path.name} is not one of {', '.join(TEXT_READERS)}, or a folder")
    if column and reader is not _table:
        raise DataError(f"{path.name} has no columns, so none is called '{column}'")
    for text in reader(path, column):
        if stripped := text.strip():
            yield stripped


def _lines(path: Path, column: str) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from (line for _, line in lines(path, file))
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _folder(path: Path, column: str) -> Iterator[str]:
    """Each file whole: a text among files is a document, not a line."""
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".txt" and p.is_file())
    if not files:
        raise DataError(f"{path} is a folder without .txt files")
    for file in files:
        try:
            with file.open(encoding="utf-8-sig") as opened:
                text = opened.read(LONGEST_FIELD)
        except UnicodeDecodeError as error:
            raise not_utf8(file, error) from error
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}") from error
        yield text


def _table(path: Path, column: str) -> Iterator[str]:
    first = next(read_rows(path), None)
    if first is None:
        return
    name = _column(path, first[1], column)
    for number, row in read_rows(path, [name]):
        text = "" if name in row and row[name] is None else row.get(name)
        if not isinstance(text, str):
            raise DataError(
                f"{path}, row {number}: no text in '{name}'; it has {', '.join(map(str, row))}"
            )
        if is_broken(text):
            raise DataError(f"{path}, row {number}: half a surrogate pair is not Unicode text")
        yield text


TEXT_READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".txt": _lines,
    **dict.fromkeys(READERS, _table),
}


def _column(path: Path, row: dict[str, Any], wanted: str) -> str:
    """The column that holds the texts, from the first row: the one named, known, or only one."""
    if wanted:
        if wanted not in row:
            raise DataError(f"{path} has no column '{wanted}'; it has {', '.join(row)}")
        return wanted
    lowered = {name.strip().lower(): name for name in row}
    for name in TEXT_COLUMNS:
        if name in lowered:
            return lowered[name]
    texts = [n for n, v in row.items() if isinstance(v, str) and not _is_number(v)]
    if len(texts) != 1:
        raise DataError(
            f"{path} has the columns {', '.join(row)}: name the one with the texts, "
            f"{path}::COLUMN (taken without asking: {', '.join(TEXT_COLUMNS)})"
        )
    return texts[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
