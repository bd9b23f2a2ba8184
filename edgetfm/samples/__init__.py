"""The data that ships: texts written for this package, and pictures and sounds made by it."""

from __future__ import annotations

from pathlib import Path

from edgetfm.samples.audio import RATE, sounds, speech
from edgetfm.samples.images import pictures

__all__ = ["RATE", "pictures", "sounds", "speech", "texts"]


def texts() -> list[str]:
    """English texts of many kinds, about half of them paragraphs, in a fixed order."""
    path = Path(__file__).with_name("texts.txt")
    return path.read_text(encoding="utf-8").splitlines()
