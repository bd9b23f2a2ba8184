"""Rows with named columns: tables, and the folders of Hugging Face's datasets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetfm.errors import DataError, MissingExtra, listed
from edgetfm.tables import READERS, Row, is_broken, read_rows
from edgetfm.training.data.named import find_files, rows_meant

KNOWN = "a .csv, .jsonl or .parquet file, or a folder that datasets' save_to_disk wrote"
SHOWN = 20
"""Problems of rows that are listed; the others are counted."""

Columns = Mapping[str, Sequence[str]]
"""What is wanted of a row -> the columns that are taken for it, the first that is there."""


PART = "part"
"""The key of the column that says which part of the data a row is in."""


def read_texts_of(dataset: str, wanted: Columns, said: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of a data set, each with a text for all that is wanted.

    said: the columns that the configuration names, by what is wanted; a `part` is read only where
    one is named. A number is taken as the text of it, and a label of Hugging Face's by its name.
    Raises DataError that names file, row and column.
    """
    rows: list[dict[str, str]] = []
    problems: list[str] = []
    only = rows_meant(dataset)
    wanted = {**wanted, **({PART: ()} if PART in said else {})}
    for path in find_files(dataset, KNOWN):
        names: dict[str, str] | None = None
        for number, row in _rows(path):
            names = names or _columns(path, row, wanted, said)
            if any(row.get(name) != value for name, value in only.items()):
                continue
            texts = {key: _text(row.get(name)) for key, name in names.items()}
            empty = [names[key] for key, text in texts.items() if text is None]
            if empty:
                problems.append(f"{path}, row {number}: no text in '{empty[0]}'")
            else:
                rows.append({key: text for key, text in texts.items() if text is not None})
    if problems:
        more = len(problems) - SHOWN
        raise DataError(listed(problems[:SHOWN] + ([f"and {more} more"] if more > 0 else [])))
    if not rows:
        raise DataError(f"{dataset} holds no rows to learn from")
    return rows


def parts_said(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What the table says of each row's part; nothing where no column was named."""
    return [row[PART] for row in rows if PART in row]


def _text(value: Any) -> str | None:
    if isinstance(value, bool | int | float):
        return str(value)
    return value if isinstance(value, str) and value.strip() and not is_broken(value) else None


def _columns(path: Path, row: Row, wanted: Columns, said: Mapping[str, str]) -> dict[str, str]:
    """What is wanted -> the column that has it."""
    found, problems = {}, []
    for key, candidates in wanted.items():
        names = [said[key]] if key in said else [c for c in candidates if c in row]
        if names and names[0] in row:
            found[key] = names[0]
        else:
            called = f"'{said[key]}'" if key in said else f"any of {', '.join(candidates)}"
            problems.append(f"no column for the {key}: {called} is not there")
    if problems:
        has = ", ".join(map(str, row)) or "none"
        raise DataError(
            f"{path} has the columns {has}; name yours in the table 'columns' of the "
            f"configuration:\n{listed(problems)}"
        )
    return found


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    if path.is_dir():
        yield from _of_folder(path)
    elif path.suffix.lower() in READERS:
        yield from read_rows(path)
    else:
        raise DataError(f"{path} is no table: give {KNOWN}")


# --- folders of Hugging Face's datasets ---------------------------------------------------------


def _of_folder(folder: Path) -> Iterator[tuple[int, Row]]:
    """The rows of all splits: what is in which part is decided here, by the content."""
    parts = sorted(p.parent for p in folder.rglob("state.json"))
    if not parts:
        raise DataError(f"{folder} is no folder of a data set: give {KNOWN}")
    number = 0
    for part in parts:
        names = _label_names(part)
        for batch in _batches(part):
            for row in batch.to_pylist():
                number += 1
                yield number, {key: _named(names.get(key), value) for key, value in row.items()}


def _batches(part: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import ipc
    except ImportError as error:
        raise MissingExtra("data", f"reading {part}") from error
    try:
        state = json.loads((part / "state.json").read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{part / 'state.json'} cannot be read: {error!r:.200}") from error
    for name in names:
        file = part / name
        if file.parent != part:
            raise DataError(f"{part / 'state.json'} names a file elsewhere: {name}")
        try:
            with pyarrow.memory_map(str(file)) as source:
                yield from ipc.open_stream(source)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{file} is not a file of a data set: {error}") from error


def _label_names(part: Path) -> dict[str, list[str]]:
    """The names of the labels in each column that has some."""
    try:
        said = json.loads((part / "dataset_info.json").read_text(encoding="utf-8"))
        features = (said.get("features") or {}).items()
        return {key: list(f["names"]) for key, f in features if f.get("_type") == "ClassLabel"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{part / 'dataset_info.json'} cannot be read: {error}") from error


def _named(names: list[str] | None, value: Any) -> Any:
    known = names and isinstance(value, int) and 0 <= value < len(names)
    return names[value] if names and known else value
