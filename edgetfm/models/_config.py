"""What every family's config must be, whoever wrote it: a checkpoint, a training file, a person."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from edgetfm.errors import SourceError, listed
from edgetfm.layers.feed_forward import ACTIVATIONS

LARGEST = 10_000_000
"""What any size in a config may be: ten times the largest vocabulary."""
DEEPEST = 1_000
"""How many layers a model may have: each is built before its weights are looked for."""


def check_config(
    config: Any,
    *,
    counts: Iterable[str],
    activations: Iterable[str],
    divides: Iterable[tuple[str, str]],
    at_most: Iterable[tuple[str, str]] = (),
    words: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Raise a SourceError that lists every field of the wrong type or value.

    counts: fields that are at least 1. activations: fields that name one. divides: pairs of
    fields, the first of which divides the second; pairs of pairs divide side by side. at_most:
    pairs of fields, the first of which is not above the second. words: fields with the words that
    they may be. No size is above LARGEST,
    nothing that ends in `layers` above DEEPEST, a dropout not above 1.
    """
    problems = _wrong_types(config)
    if not problems:
        problems = _too_large(config)
        for name in counts:
            if min(_sides(getattr(config, name))) < 1:
                problems.append(f"{name} is {getattr(config, name)}, expected at least 1")
        for name in activations:
            if getattr(config, name) not in ACTIVATIONS:
                known = ", ".join(sorted(ACTIVATIONS))
                problems.append(f"{name} is {getattr(config, name)!r}, known are {known}")
        for name, known_words in (words or {}).items():
            if getattr(config, name) not in known_words:
                known = ", ".join(known_words)
                problems.append(f"{name} is {getattr(config, name)!r}, known are {known}")
    if not problems:
        for part, whole in divides:
            small, large = (getattr(config, n) for n in (part, whole))
            if any(b % a for a, b in zip(_sides(small), _sides(large), strict=True)):
                problems.append(f"{part} ({small}) does not divide {whole} ({large})")
        for part, whole in at_most:
            small, large = (getattr(config, n) for n in (part, whole))
            if small > large:
                problems.append(f"{part} is {small}, expected at most {whole} ({large})")
    if problems:
        raise SourceError(f"this {type(config).__name__} cannot be used:\n{listed(problems)}")


def _too_large(config: Any) -> list[str]:
    problems = []
    for field in fields(config):
        value = getattr(config, field.name)
        most: int = DEEPEST if field.name.endswith("layers") else LARGEST
        if field.name.endswith("dropout"):
            most = 1
        if not isinstance(value, str) and max(_sides(value)) > most:
            problems.append(f"{field.name} is {value}, expected at most {most}")
    return problems


def _sides(value: float | tuple[int, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _wrong_types(config: Any) -> list[str]:
    hints = get_type_hints(type(config))
    problems = []
    for field in fields(config):
        value, kind = getattr(config, field.name), hints[field.name]
        if kind is float:
            right = isinstance(value, int | float) and not isinstance(value, bool)
            right = right and 0 <= value < float("inf")
        elif kind is int:
            right = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        elif isinstance(kind, type):
            right = isinstance(value, kind)
        else:  # a height and a width
            right = isinstance(value, tuple) and [type(v) for v in value] == [int, int]
        if not right:
            name = kind.__name__ if isinstance(kind, type) else "(height, width)"
            problems.append(f"{field.name} is {value!r}, expected {name}")
    return problems
