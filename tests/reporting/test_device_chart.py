"""The drawing of devices: who stands apart is seen, and nothing that is no distance is drawn."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from edgetfm.ledger import Ledger, Rung
from edgetfm.parity import Measures
from edgetfm.reporting.device_chart import LETTER, NOTHING, Spot, draw_devices, spots


def measures(cosine: float) -> Measures:
    return Measures(rows=8, max_abs=0.1, mean_abs=0.01, max_error=0.1, cosine=cosine,
                    worst_cosine=cosine)  # fmt: skip


def rung(name: str, against: str, *cosines: float, missed: tuple[str, ...] = ()) -> Rung:
    found = {f"output_{i}": measures(cosine) for i, cosine in enumerate(cosines)}
    return Rung(name, against, found, missed=missed)


LEDGER = Ledger(
    rungs=[
        rung("int8 on cpu", "PyTorch", 0.9985, 0.998),
        rung("int8 on cpu", "the exporting CPU", 1.0, 1.0),
        rung("int8 on x86-avx2", "PyTorch", 0.9, missed=("cosine 0.9 < 0.995",)),
        rung("int8 on web<b>", "the exporting CPU", math.nan),
    ],
    devices=[{"device": d, "precision": "int8"} for d in ("cpu", "x86-avx2", "web<b>", "htp")],
)


def places(svg: str, size: int) -> list[float]:
    """Where the dots (4) or the rings (6) stand, from the left."""
    circles = ElementTree.fromstring(svg).iter("circle")
    return [float(str(c.get("cx"))) for c in circles if c.get("r") == str(size)]


def test_a_row_is_as_far_as_its_worst_output_and_none_is_drawn_of_what_was_not_compared() -> None:
    cpu, avx2, web = spots(LEDGER)
    assert (cpu.to_oracle, cpu.to_itself) == (pytest.approx(0.002), NOTHING)
    assert (avx2.name, avx2.to_itself, avx2.passed) == ("x86-avx2", None, False)
    assert web.to_itself == 2.0  # no number is as far as can be


def test_the_farther_answers_are_the_more_to_the_right_they_stand() -> None:
    rows = [Spot(str(d), 10.0**d, None, True) for d in range(-6, 0)]
    found = places(draw_devices(rows, ""), 4)
    assert found == sorted(found)
    gaps = {round(b - a, 1) for a, b in pairwise(found)}
    assert max(gaps) - min(gaps) <= 0.11  # decades are equally wide


def test_all_of_it_lies_inside_and_names_every_device() -> None:
    svg = draw_devices(spots(LEDGER), "cosine:0.995,worst_cosine:0.99")
    root = ElementTree.fromstring(svg)
    _, _, width, height = (float(n) for n in str(root.get("viewBox")).split())
    numbers = [(key, float(e.get(key, 0))) for e in root.iter() for key in ("x", "cx", "y", "cy")]
    assert all(0 <= n <= (width if key.endswith("x") else height) for key, n in numbers)
    said = [str(e.text) for e in root.iter("text")]
    assert {"cpu", "x86-avx2", "web<b>", "budget 0.005"} <= set(said)
    assert "htp" not in said
    assert "<b>" not in svg


def test_what_is_outside_its_bounds_is_red_and_said_in_words() -> None:
    svg = draw_devices(spots(LEDGER), "")
    assert "x86-avx2, 1.0e-01 from PyTorch, outside its bounds" in svg
    row = re.search(r"<text[^>]*>x86-avx2</text>(.*?)<text", svg + "<text")
    assert row is not None
    assert "var(--dot)" not in row[1]


def test_where_nothing_was_compared_there_is_no_drawing() -> None:
    assert draw_devices(spots(Ledger(devices=LEDGER.devices)), "cosine:0.9") == ""


def test_a_device_whose_answers_could_not_be_compared_has_no_row() -> None:
    nothing = Rung("int8 on htp", "PyTorch", {}, missed=("logits: nothing was compared",))
    ledger = Ledger([*LEDGER.rungs, nothing], devices=LEDGER.devices)
    assert spots(ledger) == spots(LEDGER)


def test_the_line_is_at_the_tightest_budget_and_its_words_lie_inside() -> None:
    rows = [Spot("cpu", 1e-2, None, True)]
    assert "budget 0.01<" in draw_devices(rows, "cosine:0.99,cosine:0.9")
    root = ElementTree.fromstring(draw_devices(rows, "cosine:0.9999998"))
    (words,) = (e for e in root.iter("text") if str(e.text).startswith("budget"))
    assert float(str(words.get("x"))) >= LETTER * len(str(words.text))
