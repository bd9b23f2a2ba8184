"""The page of a training shows its losses, whatever they were."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from edgetfm.reporting.curve import HEIGHT, WIDTH, curve_svg, training_page

EPOCHS = [
    {"epoch": 1, "step": 10, "loss": 2.0, "validation_loss": 1.9, "validation_accuracy": 0.5},
    {"epoch": 2, "step": 20, "loss": 1.0, "validation_loss": 1.2, "validation_accuracy": 0.75},
]
METRICS: dict[str, Any] = {
    "complete": True,
    "test_accuracy": 0.7,
    "best_epoch": 2,
    "steps": 20,
    "data": {"name": "<b>texts</b>", "train": 40},
    "config": {"family": "bert", "freeze": [], "model": {"width": 8}},
    "curve": EPOCHS,
    "losses": [[5, 2.5], [10, 2.0], [15, 1.5], [20, 0.9]],
}


def test_a_page_shows_curve_epochs_and_configuration() -> None:
    page = training_page("bert for text-classification", METRICS)
    assert page == training_page("bert for text-classification", METRICS)
    assert page.count("<circle") == 2
    assert "<polyline" in page
    assert '<tr class="chosen"><td>2</td>' in page
    assert "<b>texts</b>" not in page  # what comes from outside is text, no markup
    assert "{&#39;width&#39;: 8}" in page
    assert "http" not in re.sub(r'lang="en"', "", page)  # nothing is fetched from elsewhere


def test_a_run_that_was_cut_off_in_its_first_epoch_has_a_page_too() -> None:
    early = METRICS | {"complete": False, "best_epoch": 0, "curve": [], "losses": []}
    page = training_page("gpt for text-generation", early)
    assert "cut off" in page
    assert "<svg" not in page


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=2, max_size=30))
def test_every_loss_is_drawn_inside_the_picture(values: list[float]) -> None:
    drawn = curve_svg([[i + 1, v] for i, v in enumerate(values)], [])
    root = ElementTree.fromstring(drawn)
    points = [p.split(",") for p in str(next(root.iter("polyline")).get("points")).split()]
    assert len(points) == len(values)
    for x, y in points:
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT
    heights = [float(y) for _, y in points]
    by_loss = [heights[i] for i in sorted(range(len(values)), key=values.__getitem__)]
    assert by_loss == sorted(by_loss, reverse=True)  # the larger the loss, the higher
