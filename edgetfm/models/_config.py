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


class InContext:
    """A config whose texts are no longer than its `context`."""

    context: int

    @property
    def longest(self) -> int:
        """The most tokens a text may have."""
        return self.context


def check_config(
    config: Any,
    *,
    counts: Iterable[str],
    activations: Iterable[str] = ("activation",),
    divides: Iterable[tuple[str, str]] = (),
    at_most: Iterable[tuple[str, str]] = (),
    same_length: Iterable[tuple[str, str]] = (),
    multiples: Mapping[str, int] | None = None,
    words: Mapping[str, Collection[str]] | None = None,
    choices: Mapping[str, Collection[int]] | None = None,
) -> None:
    """Raise a SourceError that lists every field of the wrong type or value.

    counts: fields that are at least 1. activations: fields that name one. divides: pairs of
    fields, the first of which divides the second; pairs of pairs divide side by side. at_most:
    pairs of fields, the first of which is not above the second. same_length: pairs of fields
    that have as many numbers. multiples: fields with what divides them. words: fields with the
    words that they may be, choices with the numbers. No size is above LARGEST, nothing that ends
    in `layers` above DEEPEST, a dropout not above 1.
    """
    problems = _wrong_types(config)
    if not problems:
        problems = _too_large(config)
        for name in counts:
            if min(_sides(getattr(config, name)), default=0) < 1:
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
        for name, numbers in (choices or {}).items():
            if getattr(config, name) not in numbers:
                known = " or ".join(map(str, numbers))
                problems.append(f"{name} is {getattr(config, name)}, expected {known}")
        for part, whole in divides:
            small, large = (getattr(config, n) for n in (part, whole))
            if any(not a or b % a for a, b in zip(_sides(small), _sides(large), strict=True)):
                problems.append(f"{part} ({small}) does not divide {whole} ({large})")
        for part, whole in at_most:
            small, large = (getattr(config, n) for n in (part, whole))
            if small > large:
                problems.append(f"{part} is {small}, expected at most {whole} ({large})")
        for one, other in same_length:
            lengths = [len(getattr(config, name)) for name in (one, other)]
            if lengths[0] != lengths[1]:
                problems.append(f"{one} has {lengths[0]} numbers, but {other} has {lengths[1]}")
        for name, by in (multiples or {}).items():
            if any(side % by for side in _sides(getattr(config, name))):
                problems.append(f"{name} is {getattr(config, name)}, expected multiples of {by}")
    if problems:
        raise SourceError(f"this {type(config).__name__} cannot be used:\n{listed(problems)}")


def _too_large(config: Any) -> list[str]:
    problems = []
    for field in fields(config):
        value = getattr(config, field.name)
        most: int = DEEPEST if field.name.endswith("layers") else LARGEST
        if field.name.endswith("dropout"):
            most = 1
        if not isinstance(value, str) and max(_sides(value), default=0) > most:
            problems.append(f"{field.name} is {value}, expected at most {most}")
    return problems


def _sides(value: float | tuple[int, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


_TUPLES = {tuple[int, int]: "(height, width)", tuple[int, ...]: "whole numbers"}


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
        else:
            right = isinstance(value, tuple) and {type(v) for v in value} <= {int}
            right = right and (kind == tuple[int, ...] or len(value) == 2)
        if not right:
            name = kind.__name__ if isinstance(kind, type) else _TUPLES[kind]
            problems.append(f"{field.name} is {value!r}, expected {name}")
    return problems
