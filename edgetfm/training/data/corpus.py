"""Plain text to model: documents, whole and in their order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgetfm.errors import DataError
from edgetfm.quantize.readers import read_texts
from edgetfm.tables import not_utf8
from edgetfm.training.data.named import find_files
from edgetfm.training.data.parts import Part, Shares, fingerprint, parted

PIECE = 20_000
"""Characters of the pieces that a single .txt file is cut into, at an empty line where it can."""

KNOWN = "a .txt, .csv, .jsonl or .parquet file (FILE::COLUMN names a column), or a folder of .txt"


@dataclass(frozen=True)
class Corpus:
    """Documents by part; `fingerprint` is the hash of all of them."""

    name: str
    parts: dict[Part, list[str]]
    fingerprint: str


def read_corpus(dataset: str, shares: Shares) -> Corpus:
    """The documents of a data set, each of them in one part.

    dataset: a name, a .txt file (cut into pieces), a folder of .txt files (a document each), or a
    table (a document a row).
    Raises DataError with file and row.
    """
    file, _, column = dataset.partition("::")
    files = find_files(file, KNOWN)
    documents = [
        text
        for path in files
        for text in _documents(path, column, whole=len(files) > 1)
        if text.strip()
    ]
    name = Path(file).stem
    if not documents:
        raise DataError(f"{dataset} holds no text to learn from")
    contents = [text.encode("utf-8", "replace") for text in documents]
    return Corpus(
        name,
        parted(zip(contents, documents, strict=True), shares, name),
        fingerprint(contents),
    )


def _documents(path: Path, column: str, *, whole: bool) -> list[str]:
    if path.suffix.lower() != ".txt":
        return list(read_texts(path, column))
    if column:
        raise DataError(f"{path} has no columns, so none is called '{column}'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return [text] if whole else pieces(text)


def pieces(text: str, size: int = PIECE) -> list[str]:
    """A text cut into pieces of about `size` characters; joined they are the text again."""
    found, start = [], 0
    while len(text) - start > 2 * size:
        blank = text.find("\n\n", start + size, start + 2 * size)
        end = blank + 2 if blank >= 0 else start + size
        found.append(text[start:end])
        start = end
    return [*found, text[start:]]
