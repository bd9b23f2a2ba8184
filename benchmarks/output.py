"""What a benchmark says: a table for people, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def table_of(title: str, rows: Iterable[Any], columns: Sequence[tuple[str, str]]) -> Table:
    """A row each; a column is its name, and how it is shown of a row, as str.format has it."""
    table = Table(title=title)
    for name, _ in columns:
        table.add_column(name, justify="left" if not name else "right")
    for row in rows:
        table.add_row(*(shown.format(row) for _, shown in columns))
    return table


def tell(table: Table, found: Any, place: str) -> None:
    """Print the table and write what it is made of; where that is printed too, the other way."""
    Console(stderr=place == "-").print(table)
    write_json(found, place)


def write_json(found: Any, place: str | None) -> None:
    """Into a file, or to the standard output for -; nowhere if no place is given."""
    text = json.dumps(found, indent=2)
    if place == "-":
        print(text)
    elif place:
        Path(place).write_text(text + "\n", encoding="utf-8")
