"""The options of a quantization are checked together, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetfm.cli._verb import PRECISIONS
from edgetfm.errors import InputError
from edgetfm.search.goal import CHOICES, Goal, Wanted, parse_time
from edgetfm.tasks import TASKS


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


@pytest.mark.parametrize(
    "wanted",
    [
        {"quantize": "int8"},
        {"quantize": "int8-static"},
        {"quantize": "a16w8", "target": "htp"},
        {"quantize": "auto", "target": "htp"},
        {"quantize": "auto", "target": "x86-vnni,htp"},
    ],
)
def test_a_decoder_is_refused_what_only_encoders_can_be(wanted: Wanted) -> None:
    goal = Goal.of(wanted)
    with pytest.raises(InputError, match=r"a decoder .* can be int4, int8-weight, fp16"):
        goal.check(TASKS["text-generation"])


def test_a_recipe_of_activations_is_refused_to_a_decoder(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text('{"name": "mine", "precision": "int8"}', encoding="utf-8")
    Goal.of({"recipe": file}).check(TASKS["fill-mask"])
    with pytest.raises(InputError, match=r"a decoder cannot be int8, .* it can be int4"):
        Goal.of({"recipe": file}).check(TASKS["text-generation"])


@pytest.mark.parametrize(
    "wanted",
    [
        {"quantize": "int4"},
        {"quantize": "fp16", "target": "cuda"},
        {"quantize": "auto", "target": "cuda,arm64"},
        {"quantize": "none", "target": "htp"},
        {"target": "htp"},
    ],
)
def test_a_decoder_is_granted_what_it_can_be(wanted: Wanted) -> None:
    Goal.of(wanted).check(TASKS["text-generation"])


def test_what_a_target_refuses_is_refused_of_every_task() -> None:
    with pytest.raises(InputError, match="cuda refuses int8: "):
        Goal.of({"quantize": "int8", "target": "cuda"}).check(TASKS["fill-mask"])
