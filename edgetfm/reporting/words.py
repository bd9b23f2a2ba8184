"""Numbers and facts as people read them: on the report page, the card and the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def share(value: float) -> str:
    """A number near 1, cut and not rounded: it never looks better than it is."""
    if abs(value - 1) < 1e-12:
        return "1.0000"  # what is missing is the rounding of the cosine itself
    digits = 7 if 0.9999 < value < 1 else 4
    if not math.isfinite(value):
        return str(value)
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def size(count: float) -> str:
    """Bytes in words: 1 MB is a million bytes, as stores and data sheets count."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return (
                f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:.2f} GB"


def label(key: object) -> str:
    """A key in words; a name that others gave, such as a file's or a setting's, stays as it is."""
    return str(key) if "." in str(key) else str(key).replace("_", " ")


def cell(key: str, value: Any) -> str:
    """One value in words."""
    if value is None or value == "" or value == {} or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return size(value) if "bytes" in key.split("_") else f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 0.1 or abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{label(k)}: {cell(str(k), v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        if key == "shape":
            return " × ".join(map(str, value))
        return ", ".join(cell(key, v) for v in value)
    return str(value)


def fact_rows(facts: Any) -> list[tuple[str, str]]:
    """Nested facts as lines: what it is about, and what is so."""
    if not isinstance(facts, Mapping):
        return [("", cell("", facts))]
    return [(label(k), cell(str(k), v)) for k, v in facts.items()]


_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|#"} | {"\n": " ", "\r": " "})


def markdown_text(value: Any) -> str:
    """The text of a value, without meaning to Markdown or HTML."""
    return str(value).translate(_MARKDOWN)
