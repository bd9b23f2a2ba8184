"""Which part of the data something is in follows from a hash of it, whatever stands around it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from edgetfm.errors import DataError, listed

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Item = TypeVar("Item")


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


def fingerprint(contents: Iterable[bytes]) -> str:
    """A sha256 of all of the data in its order."""
    return hashlib.sha256(b"".join(hashlib.sha256(c).digest() for c in contents)).hexdigest()
