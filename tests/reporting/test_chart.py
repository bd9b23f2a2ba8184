"""The chart of what was tried: its dots, its colours, its words, and nothing that is foreign."""

from __future__ import annotations

import random
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from edgetfm.reporting.chart import COLOURS, draw
from edgetfm.reporting.chart_labels import Box, Disc, along, place

BUDGET = "cosine:0.995,worst_cosine:0.99"


def variant(name: str, latency: float | None, cosine: float | None, megabytes: float) -> Any:
    measures = {} if cosine is None else {"embedding": {"cosine": cosine, "worst_cosine": cosine}}
    return {
        "name": name,
        "precision": name.partition(" ")[0].rstrip(","),
        "bytes": int(megabytes * 1e6),
        "latency": latency,
        "measures": measures,
        "inside": cosine is None or cosine >= 0.995,
    }


TEN = [
    variant("fp32", 1.0, None, 90.3),
    variant("int8", 0.39, 0.9989, 23.6),
    variant("int8 plain", 0.385, 0.9936, 23.6),
    variant("int8, 4 nodes float", 0.44, 0.9991, 28.1),
    variant("int8, 2 nodes in blocks", 0.42, 0.9990, 24.0),
    variant("int8-static", 0.41, 0.985, 23.5),
    variant("int8-weight", 0.8, 0.99992, 24.9),
    variant("int4", 0.86, 0.9918, 17.1),
    variant("fp16", 1.21, 1.0, 45.2),
    variant("a16w8", 0.97, 0.9985, 23.7),
]


def drawn(tried: list[Any], *, budget: str = BUDGET, chosen: str = "int8") -> ElementTree.Element:
    chart = draw(tried, budget=budget, chosen=chosen)
    assert chart is not None
    return ElementTree.fromstring(chart.svg)


@pytest.fixture(scope="module")
def markup() -> str:
    """Ten variants."""
    chart = draw(TEN, budget=BUDGET, chosen="int8")
    assert chart is not None
    return chart.svg


@pytest.fixture(scope="module")
def ten(markup: str) -> ElementTree.Element:
    """The same, parsed."""
    return ElementTree.fromstring(markup)


def dots(svg: ElementTree.Element) -> list[ElementTree.Element]:
    return [g for g in svg.iter("g") if "dot" in g.get("class", "").split()]


def by_name(svg: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {str(dot.findtext("title")).rpartition(": ")[0]: dot for dot in dots(svg)}


def words(svg: ElementTree.Element) -> list[str]:
    return [str(t.text) for t in svg.iter("text")]


@pytest.mark.parametrize("count", [1, 2, 10])
def test_each_variant_is_a_dot_with_a_label(count: int) -> None:
    svg = drawn(TEN[:count])
    names = [item["name"] for item in TEN[:count]]
    assert len(dots(svg)) == count
    assert set(names) <= set(words(svg))
    assert set(by_name(svg)) == set(names)


def test_the_drawing_refers_to_nothing_and_runs_nothing(markup: str) -> None:
    assert not re.search(r"url\(|href|https?:|@import|xmlns|<script|\bon\w+=", markup)
    assert {e.tag for e in ElementTree.fromstring(markup).iter()} <= {
        *("svg", "g", "path", "text", "title", "desc"),
    }
    ids = re.findall(r'\bid="([^"]+)"', markup)
    assert ids == ["chart-title", "chart-says"]


def test_every_colour_is_the_pages(markup: str) -> None:
    """Only so one drawing serves light and dark."""
    assert not re.search(r"#[0-9a-f]{3,6}\b", markup)
    used = re.findall(r"(?:fill|stroke): ([^;\"]+)", markup)
    assert set(used) <= {*COLOURS.values(), "none"}
    assert set(COLOURS.values()) <= set(used)
    texts = list(ElementTree.fromstring(markup).iter("text"))
    assert all("fill: var(" in t.get("style", "") for t in texts)


def test_text_is_text_in_the_font_of_the_page(ten: ElementTree.Element) -> None:
    svg = ten
    assert all("font-family" not in t.get("style", "") for t in svg.iter("text"))
    assert {"budget 0.005", "0.01", "0.5x", "loss: 1 − cosine (lower is better)"} <= set(words(svg))


def test_a_screen_reader_hears_what_is_drawn(ten: ElementTree.Element) -> None:
    svg = ten
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "chart-title chart-says"
    said = str(svg.findtext("desc"))
    assert "int8: 0.39x the time of fp32, loss 0.0011, 23.6 MB, inside the budget, ships" in said
    assert "int4: 0.86x the time of fp32, loss 0.0082, 17.1 MB, outside the budget" in said


def test_what_ships_and_what_is_outside_differ_in_shape(ten: ElementTree.Element) -> None:
    shown = by_name(ten)
    paths = {name: list(dot.iter("path")) for name, dot in shown.items()}
    assert len(paths["int8"]) == 2  # the dot and its ring
    assert all(len(p) == 1 for name, p in paths.items() if name != "int8")
    assert "fill: var(--dot)" in paths["int8-weight"][0].get("style", "")
    assert "fill: var(--page)" in paths["int4"][0].get("style", "")
    assert "outside" in shown["int4"].get("class", "")


def test_the_area_of_a_dot_is_its_size(ten: ElementTree.Element) -> None:
    def radius(dot: ElementTree.Element) -> float:
        path = next(dot.iter("path")).get("d", "")
        return float(path.split()[2])  # it begins right below its middle

    shown = by_name(ten)
    assert (radius(shown["fp32"]) / radius(shown["int4"])) ** 2 == pytest.approx(
        90.3 / 17.1, rel=0.01
    )


def test_the_same_input_gives_the_same_bytes(markup: str) -> None:
    again = draw(TEN, budget=BUDGET, chosen="int8")
    assert again is not None
    assert again.svg == markup


def test_hostile_names_are_words() -> None:
    name = "<b>$x^2$</b>\x00"
    svg = drawn([variant("fp32", 1.0, None, 90.0), variant(name, 0.5, 0.99, 20.0)])
    assert "<b>$x^2$</b> " in words(svg)
    assert not list(svg.iter("b"))


def test_a_long_name_is_cut_and_whole_for_who_asks() -> None:
    name = "int8, " + "9 nodes in blocks and " * 5
    svg = drawn([variant("fp32", 1.0, None, 90.0), variant(name, 0.5, 0.99, 20.0)])
    assert "int8, 9 nodes in blocks and…" in words(svg)
    assert name in by_name(svg)


def test_losses_that_span_decades_are_on_a_logarithmic_scale() -> None:
    def height(svg: ElementTree.Element, name: str) -> float:
        where = next(by_name(svg)[name].iter("path")).get("transform", "")
        return float(re.findall(r"[\d.]+", where)[1])

    spread = [
        variant("fp32", 1.0, None, 9.0),
        variant("a", 0.5, 0.9, 9.0),
        variant("b", 0.5, 0.99, 9.0),
        variant("c", 0.5, 0.999, 9.0),
    ]
    svg = drawn(spread)
    steps = [height(svg, b) - height(svg, a) for a, b in (("a", "b"), ("b", "c"))]
    assert steps[0] == pytest.approx(steps[1], rel=0.01)
    assert height(svg, "fp32") > height(svg, "c")  # no loss at all is below the smallest
    assert "0" in words(svg)
    near = drawn([variant("fp32", 1.0, None, 9.0), variant("a", 0.5, 0.996, 9.0)])
    assert "0.002" in words(near)  # a plain scale from 0


@pytest.mark.parametrize(
    ("budget", "title", "limit"),
    [
        ("cosine:0.995", "1 − cosine", "budget 0.005"),
        ("agreement:0.99", "1 − agreement", "budget 0.01"),
        ("kl:0.01", "KL divergence in nats", "budget 0.01"),
        ("2%", "share of accuracy", "budget 0.02"),
        ("max_abs:0", "largest difference", "budget 0"),
    ],
)
def test_the_loss_is_what_the_budget_is_about(budget: str, title: str, limit: str) -> None:
    item = variant("int8", 0.5, 0.99, 20.0)
    item["measures"]["embedding"] |= {"agreement": 0.98, "kl": 0.02, "max_abs": 0.3}
    item["metric"] = {"name": "accuracy", "value": 0.81, "reference": 0.9}
    chart = draw([variant("fp32", 1.0, None, 90.0), item], budget=budget, chosen="fp32")
    assert chart is not None
    assert chart.loss == title
    assert limit in words(ElementTree.fromstring(chart.svg))


def test_what_cannot_be_placed_is_named() -> None:
    odd = [variant("slow", None, 0.99, 20.0), variant("broken", 0.5, float("nan"), 20.0)]
    chart = draw([TEN[0], *odd], budget=BUDGET, chosen="fp32")
    assert chart is not None
    assert chart.left_out == ("slow (not timed)", "broken (without a finite loss)")
    assert draw(odd, budget=BUDGET, chosen="fp32") is None


def test_what_users_set_for_their_own_figures_is_no_matter(markup: str) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        again = draw(TEN, budget=BUDGET, chosen="int8")
        assert again is not None
        assert again.svg == markup
        assert mpl.rcParams["font.size"] == 30


# --- labels -------------------------------------------------------------------------------------

AREA = Box(46, 42, 356, 380)


def discs(seed: int, count: int) -> list[Disc]:
    rng = random.Random(seed)
    corner = seed % 2  # every other time they crowd together
    return [
        Disc(
            (rng.uniform(60, 120 if corner else 340), rng.uniform(200, 260 if corner else 360)),
            rng.uniform(3, 15),
            rng.uniform(20, 130),
            14.0,
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_ten_labels_never_lie_on_each_other_or_on_a_dot(seed: int) -> None:
    some = discs(seed, 10)
    boxes = place(some, AREA)
    for i, box in enumerate(boxes):
        assert box.within(AREA)
        assert not any(box.touches(other) for other in boxes[i + 1 :])
        assert not any(box.touches(disc.box) for disc in some)


def test_a_label_keeps_off_a_line_where_it_can() -> None:
    (box,) = place([Disc((200, 200), 8, 60, 14)], AREA, lines=[200])
    assert not box.bottom < 200 < box.top


def test_a_label_along_a_line_gives_way() -> None:
    free = along(200, 60, 14, AREA, [])
    assert (free.right, free.bottom) == (AREA.right, 200)
    blocked = along(200, 60, 14, AREA, [Box(300, 180, 356, 220)])
    assert blocked.right <= 300


def test_where_there_is_no_room_labels_overlap() -> None:
    small = Box(0, 0, 60, 20)
    assert len(place([Disc((30, 10), 5, 50, 14)] * 3, small)) == 3
