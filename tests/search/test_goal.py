"""The options of a quantization are checked together, before any work."""

from __future__ import annotations

import pytest

from edgetfm.cli._verb import PRECISIONS
from edgetfm.errors import InputError
from edgetfm.search.goal import CHOICES, Goal, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 M ", 120)]
)
def test_times_are_written_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "0", "1d", "1e3", "inf", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write 90s, 10m or 1h"):
        parse_time(text)


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Goal.of({"quantize": "int3", "prefer": "beauty", "max_drop": "1%", "time": "soon"})
    for part in ("int3", "beauty", "--eval", "soon"):
        assert part in str(caught.value)


def test_none_and_nothing_quantize_nothing() -> None:
    assert not Goal.of({}).quantizes
    assert not Goal.of({"quantize": "none"}).quantizes
    assert Goal.of({"quantize": "int4"}).quantizes


def test_the_command_line_offers_what_there_is() -> None:
    assert set(PRECISIONS) == set(CHOICES)
