"""One item of labelled data: what is asked and what should be answered, from a row of a file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetfm.errors import InputError
from edgetfm.files import inside, sha256
from edgetfm.tables import PAIRS, Row, is_broken

COLUMNS = (
    *("text", "sentence", "sentence1", "text_pair", "sentence2", "text1", "text2", "label"),
    *("score", "image", "file", "tokens", "words", "labels", "ner_tags", "tags"),
    *("question", "context", "answer", "answers", "audio", "path", "transcription", "transcript"),
    *("file_name", "objects", "mask_file_name", "caption"),
    *("audio_filepath", *PAIRS["source"], *PAIRS["target"]),
)
"""All columns that any task reads."""

BATCH = 8
"""Items a run: padding stays little, and memory too."""

SHOWN = 20
"""Names or problems that are listed; of the others the number is said."""


@dataclass(frozen=True)
class Example:
    """One item: what the pipeline is asked, what it should answer, and a sha256 of the question."""

    asked: Any
    wanted: Any
    digest: bytes


@dataclass(frozen=True)
class Source:
    """Where rows are read from, and what their labels may be."""

    path: Path
    labels: tuple[str, ...]

    def label(self, value: Any) -> str:
        """The name of the class that `value` names or counts; a ValueError says what it may be."""
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        text = text.strip()
        if text in self.labels:
            return text
        folded = [name for name in self.labels if name.casefold() == text.casefold()]
        if len(folded) == 1:
            return folded[0]
        number = text.removeprefix("LABEL_")
        if number.isdecimal() and (not self.labels or int(number) < len(self.labels)):
            return self.labels[int(number)] if self.labels else f"LABEL_{int(number)}"
        known = _few(self.labels) if self.labels else "numbers from 0"
        raise ValueError(f"label {value!r:.80} is none of the model's: {known}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" * (len(names) > SHOWN))


def text_in(row: Row, *names: str) -> str:
    """The text in the first of these columns that is there."""
    for name in names:
        if name in row:
            if not isinstance(row[name], str) or not row[name].strip():
                raise ValueError(f"'{name}' has no text")
            if is_broken(row[name]):
                raise ValueError(f"'{name}' has half a surrogate pair, which is not Unicode text")
            return str(row[name]).strip()
    raise KeyError(" or ".join(f"'{name}'" for name in names))


def value_in(row: Row, *names: str) -> Any:
    """What is in the first of these columns that is there."""
    for name in names:
        if name in row:
            if row[name] is None or row[name] == "":
                raise ValueError(f"'{name}' is empty")
            return row[name]
    raise KeyError(" or ".join(f"'{name}'" for name in names))


def _example(asked: Any, wanted: Any) -> Example:
    return Example(asked, wanted, hashlib.sha256(repr(asked).encode()).digest())


def read_class(source: Source, row: Row) -> Example:
    """A text, or a pair of them, and its label."""
    text: Any = text_in(row, "text", "sentence", "sentence1")
    if row.get("text_pair") or row.get("sentence2"):
        text = (text, text_in(row, "text_pair", "sentence2"))
    return _example(text, source.label(value_in(row, "label")))


def read_picture(source: Source, row: Row) -> Example:
    """A picture and its label; a table names files in its own folder."""
    file, digest = file_of(source, row, "image", "file")
    return Example(file, source.label(value_in(row, "label")), digest)


def read_sound(source: Source, row: Row) -> Example:
    """A sound and its label; a table names files in its own folder."""
    file, digest = file_of(source, row, "audio", "file", "path")
    return Example(file, source.label(value_in(row, "label")), digest)


def read_speech(source: Source, row: Row) -> Example:
    """A sound and what is said in it; a table names files in its own folder."""
    file, digest = file_of(source, row, "audio", "file", "path", "audio_filepath")
    return Example(file, text_in(row, "text", "sentence", "transcription", "transcript"), digest)


def file_of(source: Source, row: Row, kind: str, *names: str) -> tuple[Path, bytes]:
    """The file in the first of these columns that is there, and its sha256."""
    file = row[kind] if isinstance(row.get(kind), Path) else None
    if file is None:
        file = _inside(source.path.parent, text_in(row, kind, *names), kind)
    try:
        return file, bytes.fromhex(sha256(file))
    except OSError as error:
        raise ValueError(f"cannot read {file.name!r:.80}: {error.strerror}") from error


def _inside(folder: Path, name: str, kind: str) -> Path:
    """The file of this name in a folder; ValueError if there is none, or it lies elsewhere."""
    try:
        file = inside(folder, name)
        if file.is_file():
            return file
    except InputError:
        raise ValueError(f"{kind} {name!r:.80} is not in the folder of the table") from None
    except OSError as error:  # a name that is too long
        raise ValueError(f"no {kind} at {name!r:.80}: {error.strerror}") from error
    raise ValueError(f"no {kind} at {name!r:.80} in the folder of the table")


def read_tags(source: Source, row: Row) -> Example:
    """The words of a sentence and a label for each."""
    words, tags = value_in(row, "tokens", "words"), value_in(row, "labels", "ner_tags", "tags")
    if not isinstance(words, list) or not all(map(_is_word, words)):
        raise ValueError("'tokens' is no list of words")
    if not isinstance(tags, list) or len(tags) != len(words):
        count = len(tags) if isinstance(tags, list) else "no list of"
        raise ValueError(f"{len(words)} tokens, but {count} labels")
    return _example(tuple(w.strip() for w in words), tuple(map(source.label, tags)))


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not is_broken(value)


def read_answer(source: Source, row: Row) -> Example:
    """A question, its context, and the answers that are right; "" where there is none."""
    pair = text_in(row, "question"), text_in(row, "context")
    for name in ("answer", "answers"):
        if name in row:
            answers = row[name]
            break
    else:
        raise KeyError("'answer'")
    if isinstance(answers, Mapping):  # the form of SQuAD on the Hub
        answers = answers.get("text")
    answers = [""] if answers in (None, []) else [answers] if isinstance(answers, str) else answers
    if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        raise ValueError("'answer' is neither a text nor a list of texts")
    return _example(pair, tuple(answers))


def read_pair(source: Source, row: Row) -> Example:
    """Two sentences and how much they mean the same."""
    pair = text_in(row, "sentence1", "text1"), text_in(row, "sentence2", "text2")
    value = value_in(row, "score", "label")
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f"score {value!r:.80} is no number")
    return _example(pair, score)


def read_written(source: Source, row: Row) -> Example:
    """A text and what should be written about it; a question with the text it is about."""
    asked: Any = text_in(row, *PAIRS["source"])
    if "question" in row and "context" in row:
        asked = (text_in(row, "question"), text_in(row, "context"))
    return _example(asked, text_in(row, *PAIRS["target"]))


def read_text(source: Source, row: Row) -> Example:
    """A text alone."""
    return _example(text_in(row, "text", "sentence"), None)
