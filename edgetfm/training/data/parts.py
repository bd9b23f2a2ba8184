"""Which part of the data something is in follows from a hash of it, whatever stands around it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from edgetfm.errors import DataError, listed

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Item = TypeVar("Item")
SHOWN = 20
"""Problems of rows that are listed; the others are counted."""


@dataclass(frozen=True)
class Shares:
    """How much of the data judges while training goes on, and how much once it is over."""

    validation: float = 0.15
    test: float = 0.2

    def part_of(self, content: bytes) -> Part:
        """The part that something with this content is in: the same bytes are in the same one."""
        place = int.from_bytes(hashlib.sha256(content).digest()[:8], "big") / 2**64
        if place < self.test:
            return "test"
        return "validation" if place < self.test + self.validation else "train"


def parted(
    items: Iterable[tuple[bytes, Item]], shares: Shares, name: str
) -> dict[Part, list[Item]]:
    """Items by part, each with the content that decides; DataError if a part has none."""
    parts: dict[Part, list[Item]] = {part: [] for part in PARTS}
    for content, item in items:
        parts[shares.part_of(content)].append(item)
    if empty := [f"nothing falls into the {part} part" for part, held in parts.items() if not held]:
        count = sum(map(len, parts.values()))
        raise DataError(
            f"{name} has {count} items, too few to divide by their hashes:\n{listed(empty)}"
        )
    return parts


def as_said(
    items: Sequence[tuple[bytes, Item]], said: Sequence[str], name: str
) -> dict[Part, list[Item]]:
    """Items in the part that is said of each, as where a speaker is to be in one part alone.

    Raises DataError that lists the rows of other parts, and those with one content in two.
    """
    parts: dict[Part, list[Item]] = {part: [] for part in PARTS}
    seen: dict[bytes, tuple[int, str]] = {}
    problems = []
    for row, ((content, item), part) in enumerate(zip(items, said, strict=True), start=1):
        first, where = seen.setdefault(content, (row, part))
        known = next((p for p in PARTS if p == part), None)
        if known is None:
            problems.append(f"row {row}: the part is '{part}', expected {', '.join(PARTS)}")
        elif where != part:
            problems.append(f"row {row}: in the {part} part, the same as row {first} in {where}")
        else:
            parts[known].append(item)
    problems += [f"nothing is in the {part} part" for part, held in parts.items() if not held]
    if problems:
        more = len(problems) - SHOWN
        raise DataError(
            f"{name} cannot be divided as it says:\n"
            + listed(problems[:SHOWN] + ([f"and {more} more"] if more > 0 else []))
        )
    return parts


def divided(
    items: Sequence[tuple[bytes, Item]], said: Sequence[str], shares: Shares, name: str
) -> dict[Part, list[Item]]:
    """Items by what is said of each, or by their contents' hashes where nothing is said."""
    return as_said(items, said, name) if said else parted(items, shares, name)


def fingerprint(contents: Iterable[bytes]) -> str:
    """A sha256 of all of the data in its order."""
    return hashlib.sha256(b"".join(hashlib.sha256(c).digest() for c in contents)).hexdigest()
