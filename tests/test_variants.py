"""The rules by which one of the variants tried is chosen."""

from __future__ import annotations

from edgetfm.candidates import Tried
from edgetfm.variants import quickest, smallest


def rows(*tried: tuple[str, int, float, float, float]) -> dict[str, Tried]:
    """(name, bytes, latency, spread, use) of each."""
    return {
        name: Tried(name, "int8", size, {}, (), use=use, latency=latency, spread=spread)
        for name, size, latency, spread, use in tried
    }


def test_the_fastest_wins_by_more_than_the_spread() -> None:
    assert quickest(rows(("a", 100, 0.50, 0.01, 0.9), ("b", 50, 0.55, 0.01, 0.1))) == "a"


def test_a_tie_goes_to_the_smaller() -> None:
    assert quickest(rows(("a", 100, 0.50, 0.03, 0.1), ("b", 50, 0.55, 0.03, 0.9))) == "b"


def test_a_tie_of_one_size_goes_to_the_one_that_loses_least() -> None:
    assert quickest(rows(("a", 1000, 0.50, 0.03, 0.9), ("b", 1001, 0.52, 0.03, 0.1))) == "b"


def test_who_prefers_size_gets_the_smallest_however_slow() -> None:
    assert smallest(rows(("a", 100, 0.50, 0.0, 0.1), ("b", 50, 5.0, 0.0, 0.9))) == "b"
