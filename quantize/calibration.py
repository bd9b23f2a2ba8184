"""What a quantizer looks at: texts from .txt, .csv and .jsonl files, pictures from folders."""

from __future__ import annotations

import csv
import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetfm import samples
from edgetfm.errors import DataError
from edgetfm.files import sha256
from edgetfm.signature import Array

TEXT_COLUMNS = ("text", "sentence", "review", "content", "body", "document", "question", "prompt")
"""Columns taken without asking, the first that is there."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")

LONGEST_ROW = 1 << 24
"""Characters of one row; csv's own limit of 131072 is below some documents."""


@dataclass(frozen=True)
class Calibration:
    """What a quantizer looks at.

    items: texts, picture files, or pictures [height, width, 3] uint8. fingerprint: a sha256 of
    the items. note: what to tell the user, '' for data of their own.
    """

    name: str
    items: Sequence[str] | Sequence[Path] | Sequence[Array]
    fingerprint: str
    note: str = ""

    @property
    def count(self) -> int:
        """The number of items."""
        return len(self.items)


def read_calibration(path: Path | None, modality: str, limit: int = 256) -> Calibration:
    """At most `limit` different items of the data at `path`; None is the sample that ships.

    path: a .txt (a text a line), .csv or .jsonl file, `file::column` to name a column, or a folder
    of pictures. modality: 'text' or 'image'. Of more than `limit` items those with the smallest
    hash are taken, in their order, so that a sorted file is not cut. Memory holds `limit` items.
    Raises DataError with file and row.
    """
    if path is None:
        return _shipped(modality)
    file, _, column = str(path).partition("::")
    root = Path(file)
    if not root.exists():
        raise DataError(f"no calibration data at {root}")
    if modality == "image":
        return _pictures(root, limit)
    if root.is_dir():
        raise DataError(f"{root} is a folder; texts come from a .txt, .csv or .jsonl file")
    reader = _READERS.get(root.suffix.lower())
    if reader is None:
        raise DataError(f"{root.name} is not one of {', '.join(_READERS)}")
    if column and reader is _lines:
        raise DataError(f"{root.name} has no columns, so none is called '{column}'")
    try:
        texts = _spread(reader(root, column), limit)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{root} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {root}: {error.strerror}") from error
    if not texts:
        raise DataError(f"{root} holds no text to calibrate with")
    return Calibration(root.name, texts, _fingerprint(texts))


def _shipped(modality: str) -> Calibration:
    if modality == "image":
        pictures = samples.pictures()
        digest = hashlib.sha256()
        for picture in pictures:
            digest.update(str(picture.shape).encode() + picture.tobytes())
        return Calibration(
            "generated pictures",
            pictures,
            digest.hexdigest(),
            f"calibrated and judged on {len(pictures)} generated pictures that ship with edgetfm: "
            "pictures like those the model will meet are better",
        )
    texts = samples.texts()
    return Calibration(
        "shipped texts",
        texts,
        _fingerprint(texts),
        f"calibrated and judged on the {len(texts)} English texts that ship with edgetfm: "
        "texts like those the model will meet are better",
    )


def _fingerprint(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _spread(texts: Iterable[str], limit: int) -> list[str]:
    """The `limit` different texts with the smallest hashes, in the order they came."""
    kept: list[tuple[int, int, str]] = []  # a heap with the largest hash on top
    hashes: set[int] = set()
    for place, text in enumerate(texts):
        rank = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8])
        if rank in hashes or (len(kept) == limit and rank > -kept[0][0]):
            continue
        hashes.add(rank)
        entry = (-rank, place, text)
        if len(kept) < limit:
            heapq.heappush(kept, entry)
        else:
            hashes.discard(-heapq.heapreplace(kept, entry)[0])
    return [text for _, _, text in sorted(kept, key=lambda entry: entry[1])]


def _lines(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if text := line.strip():
                yield text


def _csv(path: Path, column: str) -> Iterator[str]:
    csv.field_size_limit(LONGEST_ROW)
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
            first = next(rows, None)
            if first is None:
                return
            at = header.index(_column(path, dict(zip(header, first, strict=False)), column))
            row: list[str] | None = first
            while row is not None:
                if row and at >= len(row):
                    raise DataError(
                        f"{path}, row {number}: it has {len(row)} columns, '{header[at]}' is "
                        f"column {at + 1}"
                    )
                if row and (text := row[at].strip()):
                    yield text
                row = next(rows, None)
                number += 1
        except csv.Error as error:
            raise DataError(f"{path}, row {number}: {error}") from error


def _jsonl(path: Path, column: str) -> Iterator[str]:
    name = column
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
            name = name or _column(path, row, column)
            if not isinstance(row.get(name), str):
                raise DataError(
                    f"{path}, row {number}: no text in '{name}'; it has {', '.join(map(str, row))}"
                )
            if not row[name].isascii() and any("\ud800" <= c <= "\udfff" for c in row[name]):
                raise DataError(f"{path}, row {number}: half a surrogate pair is not Unicode text")
            if text := row[name].strip():
                yield text


_READERS = {".txt": _lines, ".csv": _csv, ".jsonl": _jsonl}


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


def _pictures(root: Path, limit: int) -> Calibration:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; pictures come from a folder of image files")
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
    if not files:
        raise DataError(f"{root} holds no pictures ({', '.join(PICTURES)})")
    chosen = set(_spread((p.relative_to(root).as_posix() for p in files), limit))
    items = [p for p in files if p.relative_to(root).as_posix() in chosen]
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.relative_to(root).as_posix()} {sha256(item)}\n".encode())
    return Calibration(root.name, items, digest.hexdigest())
