"""The report page and the model card say what happened, and nothing in them comes alive."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from edgetfm.bundle import Component, Manifest, Variant
from edgetfm.parity import Ledger, Measures, Rung
from edgetfm.report import cell, model_card, report_page, share, size
from edgetfm.signature import Signature, TensorSpec

NASTY = "<script>alert(1)</script>"
MISS = "sentence_embedding: worst_cosine 0.98 < 0.99"


def measures(cosine: float) -> Measures:
    return Measures(40, 0.1, 0.01, 0.1, cosine, cosine)


def manifest() -> Manifest:
    signature = Signature(
        (TensorSpec("input_ids", "int64", ("batch", "sequence")),),
        (TensorSpec("sentence_embedding", "float32", ("batch", 384)),),
    )
    return Manifest(
        task="feature-extraction",
        family="bert",
        route="native",
        default="int8",
        components={"model": Component(signature, {"int8": Variant("onnx/model_int8.onnx")})},
        source={"kind": "huggingface", "name": f"someone/{NASTY}|x"},
        session={"disabled_optimizers": ["SkipLayerNormFusion"]},
        versions={"torch": "2.13.0"},
        labels=(NASTY,),
        licence="apache-2.0",
    )


def ledger(*missed: str) -> Ledger:
    rungs = [
        Rung("fp32 graph", "PyTorch", {"sentence_embedding": measures(1.0)}, "max_error:1"),
        Rung(
            "int8",
            "PyTorch",
            {"sentence_embedding": measures(0.98)},
            "worst_cosine:0.99",
            missed=missed,
            note=f"first node that diverges: {NASTY}" if missed else "",
        ),
    ]
    return Ledger(rungs, {"cpu": "one of a kind"})


TRIED: list[dict[str, Any]] = [
    {"precision": "fp32", "bytes": 90_400_000, "latency": 1.0, "inside": True},
    {
        "precision": "int8",
        "bytes": 22_900_000,
        "latency": 0.41,
        "spread": 0.03,
        "measures": {"sentence_embedding": measures(0.98).to_json()},
        "missed": [NASTY],
        "facts": {
            "matrix_products_in_int8": 36,
            "nodes": [{"node": "layers.0.qkv", "shape": [384, 1152]}],
            "left_in_float": [
                {"node": NASTY, "reason": "both inputs are activations"},
                {"node": "layers.1.scores", "reason": "both inputs are activations"},
            ],
        },
        "inside": False,
    },
]


class Page(HTMLParser):
    """The tags, the attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_a_page_stands_alone_and_runs_nothing() -> None:
    html = report_page(manifest(), ledger(MISS), TRIED, [NASTY])
    page = Page(html)
    assert {"script", "img", "link", "iframe"}.isdisjoint(page.tags)
    assert not [a for a, _ in page.attributes if a in ("src", "href") or a.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", html)
    assert page.text.count(NASTY) >= 5  # shown as it was written: name, label, note, miss, fact


def test_a_page_tells_the_whole_story() -> None:
    text = Page(report_page(manifest(), ledger(), TRIED)).text
    for words in (
        "Every bound holds",
        "fp32 graph",
        "22.9 MB",
        "90.4 MB",
        "0.41x",
        "matrix products in int8 36",
        "384 × 1152",
        "layers.1.scores both inputs are activations",
        "SkipLayerNormFusion",
        "2.13.0",
        "one of a kind",
        "apache-2.0",
        "worst_cosine:0.99",
    ):
        assert words in text


def test_a_page_says_first_that_a_bound_is_missed() -> None:
    text = Page(report_page(manifest(), ledger(MISS), TRIED)).text
    assert "Every bound holds" not in text
    assert text.index("Bounds are missed") < text.index(MISS) < text.index("Parity")
    assert "1 of 2 bounds hold" in text
    assert "FAIL" in text


def test_a_page_reads_in_the_dark_and_on_a_phone() -> None:
    html = report_page(manifest(), ledger(), TRIED)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    table_labels = re.findall(r"<td(?! data-label)", html)
    assert table_labels == []  # a phone shows each cell with its own label


def test_a_card_has_metadata_and_no_live_markup() -> None:
    card = model_card(manifest(), ledger(), TRIED)
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert 'license: "apache-2.0"' in head
    assert "pipeline_tag: feature-extraction" in head
    assert "<script" not in body.replace("\\<", "")
    assert "| int8 (default) | onnx/model\\_int8.onnx | 22.9 MB |" in body
    assert "from edgetfm import pipeline" in body


def test_a_card_owns_up_to_a_missed_bound() -> None:
    card = model_card(manifest(), ledger(MISS), TRIED)
    assert "Bounds are missed" in card
    assert "every bound holds" not in card


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.0000"), (0.99999999, "0.9999999"), (0.99499, "0.9949"), (-0.2, "-0.2000")],
)
def test_a_share_never_looks_better_than_it_is(value: float, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (22_900_000, "22.9 MB"),
        (123_456, "123 kB"),
        (3.2e9, "3.20 GB"),
    ],
)
def test_sizes_are_in_decimal_units(count: float, text: str) -> None:
    assert size(count) == text


def test_cells_are_words() -> None:
    assert cell("bytes", 1500) == "1.5 kB"
    assert cell("nodes", 1500) == "1,500"
    assert cell("", True) == "yes"
    assert cell("", None) == "–"
    assert cell("", {"a_b": [1, 0.5]}) == "a b: 1, 0.5"
